"""The stream of one call, as a frontend reads it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, final

from togetherchat_server.domain.call import EventBatch


@final
class SessionStream:
    """`async with` opens the stream; iteration yields its batches; leaving releases everything upstream.

    `aclose` releases it from another task, while the frontend's task waits for a peer that does not
    read. Iteration adds no coroutine between the frontend and the layers below.
    """

    __slots__ = ("_batches", "_open", "_stack")

    def __init__(self, open_stream: Callable[[AsyncExitStack], Awaitable[AsyncIterator[EventBatch]]]) -> None:
        self._open = open_stream
        self._stack = AsyncExitStack()
        self._batches: AsyncIterator[EventBatch] | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._batches = await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.pop_all().__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[EventBatch]:
        assert self._batches is not None  # noqa: S101  the stream is open
        return anext(self._batches)

    async def aclose(self) -> None:
        """Release what the stream holds, as if its call were cancelled. Not during a read."""
        cancelled = asyncio.CancelledError()
        await self._stack.pop_all().__aexit__(type(cancelled), cancelled, None)
