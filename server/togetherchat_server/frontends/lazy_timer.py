"""A timer that is cheap to postpone: a connection does so at every request, a stream at every write."""

import asyncio
from collections.abc import Callable
from typing import Final, final

_NEVER: Final = float("inf")


@final
class LazyTimer:
    """Calls `on_expired` after a time, unless it is postponed or stopped first.

    Postponing does not touch the event loop: the handle that is already scheduled checks the time when
    it runs, and schedules itself again.
    """

    __slots__ = ("_expires_at", "_handle", "_loop", "_on_expired")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expired: Callable[[], object]) -> None:
        self._loop = loop
        self._on_expired = on_expired
        self._expires_at = _NEVER
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """Expire after `seconds`; an earlier setting is replaced."""
        self._expires_at = self._loop.time() + seconds
        if self._handle is None or self._handle.when() > self._expires_at:
            self._schedule()

    def shorten(self, seconds: float) -> None:
        """Expire after `seconds`, or at the time that is already set if that is sooner."""
        if self._expires_at > self._loop.time() + seconds:
            self.start(seconds)

    def stop(self) -> None:
        """Stop the timer. It can be started again."""
        self._expires_at = _NEVER

    def close(self) -> None:
        """Stop the timer for good, and cancel its handle in the event loop."""
        self.stop()
        self._on_expired = _ignore  # mostly a method of the timer's owner: both would refer to each other
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(self._expires_at, self._on_handle)

    def _on_handle(self) -> None:
        self._handle = None
        if self._expires_at == _NEVER:
            return
        if self._loop.time() < self._expires_at:
            self._schedule()
        else:
            self._expires_at = _NEVER
            self._on_expired()


def _ignore() -> None:
    """Do nothing."""
