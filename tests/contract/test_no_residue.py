"""What is left of a service that has stopped: nothing."""

import asyncio

from support.app import collect, request, running_app
from support.waiting import eventually


def others():
    """The tasks of this loop but the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_stopped_service_leaves_no_task():
    """Served, left by a caller, drained after a time of propagation: no task runs on."""
    async with running_app(sandbox_tokens_per_second=1000) as app:
        await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        left = app.chat.StreamComplete(request(model="openai/gpt-oss-120b"))
        await left.read()
        left.cancel()
        await collect(app.chat.StreamComplete(request(model="openai/gpt-oss-120b")))
        await app.app.stop(drain_delay_s=0.05)

    await eventually(lambda: not others())


async def test_a_service_that_cannot_start_leaves_no_task():
    """A taken port undoes everything that was opened before it."""
    async with running_app() as first:
        before = others()
        try:
            async with running_app(grpc_listen=first.addresses.grpc):
                raise AssertionError("the port is taken")
        except OSError:
            pass
        await eventually(lambda: others() <= before)
