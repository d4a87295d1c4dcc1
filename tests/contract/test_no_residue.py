"""A service that has stopped leaves nothing behind."""

import asyncio

from support.app import collect, request, running_app
from support.waiting import eventually


def other_tasks():
    """Return the tasks of this loop except the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_stopped_service_leaves_no_task():
    """It has served calls, one of them cancelled, and drained after a drain delay."""
    async with running_app(sandbox_tokens_per_second=1000) as app:
        await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        cancelled = app.chat.StreamComplete(request(model="openai/gpt-oss-120b"))
        await cancelled.read()
        cancelled.cancel()
        await collect(app.chat.StreamComplete(request(model="openai/gpt-oss-120b")))
        await app.app.stop(drain_delay_s=0.05)

    await eventually(lambda: not other_tasks())


async def test_a_service_that_cannot_start_leaves_no_task():
    """If the port is in use, everything that was opened before is closed."""
    async with running_app() as first:
        before = other_tasks()
        try:
            async with running_app(grpc_listen=first.addresses.grpc):
                raise AssertionError("the port is in use")
        except OSError:
            pass
        await eventually(lambda: other_tasks() <= before)
