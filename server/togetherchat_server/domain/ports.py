"""The interfaces between frontends and providers.

The messages of the contract are the domain model: they enter as the caller sent them and leave
as the caller receives them. A `Call` travels beside them.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.call import Call, EventBatch


class Chat(Protocol):
    """Answers conversations. Every failure is a `ServiceError`; a cancel passes through."""

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        """The whole answer."""
        ...

    def stream(
        self, request: service.CompleteRequest, call: Call
    ) -> AbstractAsyncContextManager[AsyncIterator[EventBatch]]:
        """The answer as it is made. Leaving the context releases the upstream.

        The events keep the law written at `ChatService.StreamComplete`; a stream that ends
        without raising has sent `completed` last.
        """
        ...


class LiveModels(Protocol):
    """The provider's own list of models."""

    async def live_models(self, call: Call) -> Sequence[models.Model]:
        """Every model that the provider lists for the call's key, `source` PROVIDER, state ACTIVE."""
        ...


class ModelListing(Protocol):
    """Answers ListModels."""

    async def list_models(self, request: service.ListModelsRequest, call: Call) -> service.ListModelsResponse:
        """One page. Raises `ServiceError` INVALID_REQUEST for a bad page token, size or order."""
        ...
