"""The signals that stop a process: whether one came, which, and whether another followed."""

import asyncio
import signal
from typing import Final, final


@final
class StopSignals:
    """Listens to SIGTERM and SIGINT from its making on, and to what else is named."""

    def __init__(self, *also: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        self.first: Final[asyncio.Future[int]] = loop.create_future()
        self.second: Final = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, *also):
            loop.add_signal_handler(number, self._came, number)

    def stop(self) -> None:
        """As if SIGINT had come, unless one has."""
        if not self.first.done():
            self.first.set_result(signal.SIGINT)

    def _came(self, number: int) -> None:
        if self.first.done():
            self.second.set()
        else:
            self.first.set_result(number)
