"""The signals that stop a process: the first one, and whether a second one followed."""

import asyncio
import signal
from typing import Final, final


@final
class StopSignals:
    """Handles SIGTERM, SIGINT and the `extra` signals from its creation on.

    `first` is the number of the first signal. `second` is set when another one arrives.
    """

    def __init__(self, *extra: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        self.first: Final[asyncio.Future[int]] = loop.create_future()
        self.second: Final = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, *extra):
            loop.add_signal_handler(number, self._received, number)

    def stop(self) -> None:
        """Act as if SIGINT had arrived, unless a signal has arrived already."""
        if not self.first.done():
            self.first.set_result(signal.SIGINT)

    def _received(self, number: int) -> None:
        if self.first.done():
            self.second.set()
        else:
            self.first.set_result(number)
