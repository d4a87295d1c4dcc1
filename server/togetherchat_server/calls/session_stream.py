"""The stream of one call, as a frontend reads it."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, final

from togetherchat_server.domain.call import EventBatch
from togetherchat_server.domain.ports import BatchStream


@final
class SessionStream:
    """`async with` opens the stream; iteration yields its batches; leaving releases everything upstream.

    `aclose` releases it from another task, while the frontend's task waits for a peer that does not
    read. Iteration adds no coroutine between the frontend and the layers below.
    """

    __slots__ = ("_batches", "_open")

    def __init__(self, open_stream: Callable[[], Awaitable[BatchStream]]) -> None:
        self._open = open_stream
        self._batches: BatchStream | None = None

    async def __aenter__(self) -> Self:
        self._batches = await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[EventBatch]:
        assert self._batches is not None  # noqa: S101  the stream is open
        return anext(self._batches)

    async def aclose(self) -> None:
        """Release what the stream holds. Not during a read; it can be repeated."""
        if self._batches is not None:
            await self._batches.aclose()


@final
class QuotaStream:
    """A stream that counts in the quota store of all replicas until it is closed."""

    __slots__ = ("_batches", "_quota")

    def __init__(self, batches: BatchStream, quota: AsyncExitStack) -> None:
        self._batches = batches
        self._quota = quota

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[EventBatch]:
        return anext(self._batches)

    async def aclose(self) -> None:
        try:
            await self._batches.aclose()
        finally:
            await self._quota.aclose()
