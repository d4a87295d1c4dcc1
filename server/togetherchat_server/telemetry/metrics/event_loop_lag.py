"""Measures how late the event loop runs: a timer that reports its own delay."""

import asyncio
from collections.abc import Callable
from typing import Final, final

INTERVAL_S: Final = 0.25


@final
class EventLoopLag:
    """Calls `observe` four times a second with the delay of a timer in seconds."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + INTERVAL_S
        self._timer = loop.call_at(due_s, self._fire, due_s)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self, due_s: float) -> None:
        self._observe(max(0.0, asyncio.get_running_loop().time() - due_s))
        self.start()
