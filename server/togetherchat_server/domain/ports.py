"""The interfaces between frontends and providers.

The messages of the contract are the domain model: they enter as the caller sent them and leave
as the caller receives them. A `Call` travels beside them.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol, Self

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.call import Call, EventBatch


class BatchStream(Protocol):
    """An open stream of a completion. The caller of `Chat.stream` closes it, at its end or before."""

    def __aiter__(self) -> Self: ...

    def __anext__(self) -> Awaitable[EventBatch]: ...

    async def aclose(self) -> None:
        """Release the upstream connection. Not during a read; it can be repeated."""
        ...


class Chat(Protocol):
    """Completes chats. Every failure is a `ServiceError`; a cancel passes through."""

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        """Return the whole completion."""
        ...

    async def stream(self, request: service.CompleteRequest, call: Call) -> BatchStream:
        """Open the completion as a stream, and wait for its first batch. A failure leaves nothing open.

        The events keep the stream guarantees of `ChatService.StreamComplete`. A stream that ends
        without raising has yielded `completed` last.
        """
        ...


class LiveModels(Protocol):
    """Reads the provider's own model list."""

    async def live_models(self, call: Call) -> Sequence[models.Model]:
        """Return every model that the provider lists for the call's key, with `source` PROVIDER.

        The state is ACTIVE; UNCONFIRMED for a listed model that the provider is known not to serve.
        """
        ...


class ModelListing(Protocol):
    """Serves ListModels and GetModel."""

    async def list_models(self, request: service.ListModelsRequest, call: Call) -> service.ListModelsResponse:
        """Return one page. Raises `ServiceError` INVALID_REQUEST for a bad page token, size or order."""
        ...

    async def get_model(self, request: service.GetModelRequest, call: Call) -> service.GetModelResponse:
        """Return one model. Raises `ServiceError` MODEL_NOT_FOUND, or INVALID_REQUEST for a bad id."""
        ...
