"""The ChatService, thin: ask the port, hand on the answer."""

from collections.abc import AsyncGenerator
from typing import Final, final

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.fronts.rpc.boundary import Boundary
from togetherchat_server.fronts.rpc.methods import StreamMethod, UnaryMethod
from togetherchat_server.ports import Call, Chat, Events, ModelListing

SERVICE: Final = "togetherchat.v1.ChatService"


@final
class ChatServicer:
    """The three RPCs."""

    def __init__(self, chat: Chat, models: ModelListing) -> None:
        self._chat = chat
        self._models = models

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        return await self._chat.complete(request, call)

    async def stream_complete(
        self, request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[Events, None]:
        async with self._chat.stream(request, call) as batches:
            async for events in batches:
                yield events

    async def list_models(self, request: service.ListModelsRequest, call: Call) -> service.ListModelsResponse:
        return await self._models.list_models(request, call)

    def register(self, boundary: Boundary) -> None:
        """Put the RPCs into the boundary's table."""
        boundary.add(
            f"/{SERVICE}/Complete", UnaryMethod(request=service.CompleteRequest, answer=self.complete)
        )
        boundary.add(
            f"/{SERVICE}/StreamComplete",
            StreamMethod(request=service.CompleteRequest, answer=self.stream_complete),
        )
        boundary.add(
            f"/{SERVICE}/ListModels",
            UnaryMethod(request=service.ListModelsRequest, answer=self.list_models),
        )
