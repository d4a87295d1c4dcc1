"""How late the event loop is: a timer that notes by how much it was missed."""

import asyncio
from collections.abc import Callable
from typing import Final, final

EVERY_S: Final = 0.25


@final
class EventLoopLag:
    """Tells `note`, four times a second, how many seconds after its time a timer came."""

    def __init__(self, note: Callable[[float], None]) -> None:
        self._note = note
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + EVERY_S
        self._timer = loop.call_at(due_s, self._rang, due_s)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _rang(self, due_s: float) -> None:
        self._note(max(0.0, asyncio.get_running_loop().time() - due_s))
        self.start()
