"""Waiting for what must happen and tells nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Answer = TypeVar("Answer")


async def eventually(reached: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Wait until `reached()` is true. Raises TimeoutError when it does not come to that."""
    async with asyncio.timeout(within_s):
        while not reached():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.005)


async def answered(ask: Callable[[], Awaitable[Answer | None]], *, within_s: float = 20.0) -> Answer:
    """The first answer to an asking that goes on until there is one, another than None."""
    async with asyncio.timeout(within_s):
        while (answer := await ask()) is None:  # noqa: ASYNC110  who is asked tells nobody by itself
            await asyncio.sleep(0.01)
    return answer
