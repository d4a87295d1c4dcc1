"""Leaves a stream as a program does whose own client is gone: its task is cancelled."""

import asyncio
from contextlib import suppress

WITHIN_S = 20.0


async def cancelled_after(event, reading):
    """Run `reading` as a task until the event is set, then cancel the task and wait for its end."""
    task = asyncio.create_task(reading)
    async with asyncio.timeout(WITHIN_S):
        await event.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
