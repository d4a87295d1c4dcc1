"""Validates every request before it is processed, whichever frontend received it."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import final

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation import RequestLimits, validate
from togetherchat_server.domain.call import Call, EventBatch
from togetherchat_server.domain.ports import Chat


@final
class ValidatingChat:
    """A `Chat` that wraps another: rejects requests that the contract does not allow."""

    def __init__(self, chat: Chat, limits: RequestLimits) -> None:
        self._chat = chat
        self._limits = limits

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        validate(request, self._limits)
        return await self._chat.complete(request, call)

    @asynccontextmanager
    async def stream(
        self, request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[AsyncIterator[EventBatch]]:
        validate(request, self._limits)
        async with self._chat.stream(request, call) as batches:
            yield batches
