"""Waiting for conditions that have no event."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")


async def eventually(reached: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Wait until `reached()` is true. Raises TimeoutError if it does not become true."""
    async with asyncio.timeout(within_s):
        while not reached():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.005)


async def poll(operation: Callable[[], Awaitable[Result | None]], *, within_s: float = 20.0) -> Result:
    """Repeat the operation until its result is not None; return that result."""
    async with asyncio.timeout(within_s):
        while (result := await operation()) is None:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.01)
    return result
