"""A process that serves alone, run within the test's own."""

import asyncio
import gc
import io

from togetherchat_server.config import Configuration, Settings
from togetherchat_server.runtime.process import Process, serve_alone
from togetherchat_server.runtime.signals import StopSignals


async def test_what_is_loaded_is_left_out_of_garbage_collections():
    """A full collection of it would stop every call for tens of milliseconds."""
    signals, frozen = StopSignals(), []

    def greet(_addresses):
        frozen.append(gc.get_freeze_count())
        signals.stop()

    settings = Settings(grpc_listen="127.0.0.1:0", admin_listen="off", sandbox=True)
    process = Process(
        configuration=Configuration(settings=settings, upstream=None),
        signals=signals,
        log=io.StringIO(),
        version="0",
    )
    before = gc.get_freeze_count()
    try:
        problem = await serve_alone(process, greet)
    finally:
        gc.unfreeze()
        for number in (2, 15):
            asyncio.get_running_loop().remove_signal_handler(number)

    assert "" == problem
    assert frozen[0] > before + 10_000
