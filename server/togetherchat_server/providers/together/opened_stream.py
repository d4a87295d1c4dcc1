"""A stream of batches whose first one is known."""

from collections.abc import AsyncGenerator, Awaitable
from typing import Self, final

from togetherchat_server.domain.call import EventBatch


@final
class OpenedStream:
    """Implements `BatchStream` with a generator that was resumed once.

    What a generator holds is released by its end: before it is resumed for the first time, it holds nothing
    and closing it runs nothing. Later reads are the generator's own: they add no coroutine.
    """

    __slots__ = ("_batches", "_first")

    def __init__(self, first: EventBatch, batches: AsyncGenerator[EventBatch]) -> None:
        self._first: EventBatch | None = first
        self._batches = batches

    @classmethod
    async def of(cls, batches: AsyncGenerator[EventBatch]) -> Self:
        return cls(await anext(batches), batches)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[EventBatch]:
        if self._first is None:
            return anext(self._batches)
        first, self._first = self._first, None
        return _returned(first)

    async def aclose(self) -> None:
        await self._batches.aclose()


async def _returned(events: EventBatch) -> EventBatch:
    return events
