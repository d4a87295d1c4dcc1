"""Waiting for what must happen and tells nobody."""

import asyncio
from collections.abc import Callable


async def eventually(reached: Callable[[], object], *, within_s: float = 5.0) -> None:
    """Wait until `reached()` is true. Raises TimeoutError when it does not come to that."""
    async with asyncio.timeout(within_s):
        while not reached():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.005)
