"""How many calls may be in flight, and whether new ones are taken at all.

A slot is taken the moment a call is seen, before its message is read: a caller who is
refused costs no more than its headers. Knows no front; a front returns the slot when the
call's task has ended, whatever way it ended.
"""

from collections.abc import Callable
from typing import final

from togetherchat_server.errors import Kind, ServiceError


@final
class Admission:
    """The bound on calls in flight of one process."""

    def __init__(self, *, calls_max: int) -> None:
        self._calls_max = calls_max
        self._in_flight = 0
        self._draining = False
        self._on_idle: Callable[[], None] | None = None

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def take(self) -> None:
        """Take a slot.

        Raises:
            ServiceError: OVERLOADED when all are taken, DRAINING when the service is stopping.
        """
        if self._draining:
            raise ServiceError(Kind.DRAINING, "the service is stopping; another replica may serve")
        if self._in_flight >= self._calls_max:
            raise ServiceError(
                Kind.OVERLOADED, f"the service has {self._calls_max} calls in flight, its limit"
            )
        self._in_flight += 1

    def give_back(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0 and self._on_idle is not None:
            self._on_idle()

    def refuse_new_calls(self, on_idle: Callable[[], None]) -> None:
        """Take no more calls, and call `on_idle` once none is in flight, at once if none is now."""
        self._draining = True
        self._on_idle = on_idle
        if self._in_flight == 0:
            on_idle()
