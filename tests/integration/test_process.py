"""`serve_alone`, run in the test's process."""

import asyncio
import gc
import io

from togetherchat_server.config import Configuration, Settings
from togetherchat_server.runtime.process import ProcessContext, serve_alone
from togetherchat_server.runtime.signals import StopSignals


async def test_loaded_objects_are_excluded_from_garbage_collection():
    """A full collection that scans them would stop every call for tens of milliseconds."""
    signals, frozen = StopSignals(), []

    def on_serving(_addresses):
        frozen.append(gc.get_freeze_count())
        signals.stop()

    settings = Settings(grpc_listen="127.0.0.1:0", admin_listen="off", sandbox=True)
    context = ProcessContext(
        configuration=Configuration(settings=settings, provider=None),
        signals=signals,
        log=io.StringIO(),
        version="0",
    )
    before, thresholds = gc.get_freeze_count(), gc.get_threshold()
    try:
        problem = await serve_alone(context, on_serving)
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        for number in (2, 15):
            asyncio.get_running_loop().remove_signal_handler(number)

    assert "" == problem
    assert frozen[0] > before + 10_000
