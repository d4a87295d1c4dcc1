"""How many calls may be in flight, how many may wait for a place, and whether new ones are taken.

A place is taken the moment a call is seen, before its message is read: a caller who is refused
costs no more than its headers. When every place is taken, a few calls wait a moment, first
come, first served. No more of them than will have their turn in time at the pace of the last
calls (Little's law): who would wait in vain is refused at once. Knows no front: a front bounds
the wait, and gives the permit back when the call's task has ended, whatever way it ended.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

from togetherchat_server.domain.reasons import Reason, ServiceError

PACE_OF: Final = 64
"""About so many calls, the last ones, say how long calls take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """The bounds. `max_concurrent_calls_per_caller` is for the calls of one caller's key; 0: no bound of its own."""

    max_concurrent_calls: int
    max_queued_calls: int = 0
    queue_timeout_s: float = 0.25
    max_concurrent_calls_per_caller: int = 0


class Quotas(Protocol):
    """Bounds of single callers, kept elsewhere. Who entered leaves, once."""

    def enter(self, caller: str, /) -> None:
        """Raises ServiceError CALLER_QUOTA."""
        ...

    def leave(self, caller: str, /) -> None: ...


@final
class Permit:
    """One call's place, or its place in the queue. `turn` is None where nobody has to wait."""

    __slots__ = ("caller", "since_s", "turn")

    def __init__(self, caller: str, since_s: float) -> None:
        self.caller = caller
        self.since_s = since_s
        self.turn: asyncio.Future[None] | None = None


@final
class Admission:
    """The bounds on the calls of one process."""

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        clock: Callable[[], float],
        short_of_memory: Callable[[], bool] = lambda: False,
        quotas: Quotas | None = None,
    ) -> None:
        """`quotas` are asked last, so that what is refused for another reason uses none of them up."""
        self._limits = limits
        self._clock = clock
        self._short_of_memory = short_of_memory
        self._quotas = quotas
        self._in_flight = 0
        self._held_s = 0.0
        self._of_caller: Counter[str] = Counter()
        self._queue: OrderedDict[Permit, asyncio.Future[None]] = OrderedDict()
        self._draining = False
        self._on_idle: Callable[[], None] | None = None

    @property
    def in_flight(self) -> int:
        """Calls that have a place."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def enter(self, caller: str = "") -> Permit:
        """Take a place, or a place in the queue. `caller` tells callers apart; empty: it is not known.

        Raises:
            ServiceError: OVERLOADED, CALLER_QUOTA, or DRAINING when the service is stopping.
        """
        limits = self._limits
        if self._draining:
            raise ServiceError(Reason.DRAINING, "the service is stopping; another replica may serve")
        if self._short_of_memory():
            raise ServiceError(Reason.OVERLOADED, "the service is short of memory")
        if caller and 0 < limits.max_concurrent_calls_per_caller <= self._of_caller[caller]:
            raise ServiceError(
                Reason.CALLER_QUOTA, f"{limits.max_concurrent_calls_per_caller} calls of yours are in flight"
            )
        at_once = self._in_flight < limits.max_concurrent_calls
        if not (at_once or len(self._queue) < self._room()):
            raise ServiceError(
                Reason.OVERLOADED, f"the service has {limits.max_concurrent_calls} calls in flight, its limit"
            )
        if self._quotas is not None:
            self._quotas.enter(caller)
        permit = Permit(caller, self._clock())
        if at_once:
            self._in_flight += 1
        else:
            permit.turn = self._queue[permit] = asyncio.get_running_loop().create_future()
        if caller:
            self._of_caller[caller] += 1
        return permit

    def leave(self, permit: Permit) -> None:
        """Give a permit back, once: the place goes to the next in the queue."""
        if self._quotas is not None:
            self._quotas.leave(permit.caller)
        self._forget(permit.caller)
        if self._queue.pop(permit, None) is not None:
            return
        now_s = self._clock()
        self._note_pace(now_s - permit.since_s)
        if self._queue:
            following, turn = self._queue.popitem(last=False)
            following.since_s = now_s
            if not turn.done():
                turn.set_result(None)
            return
        self._in_flight -= 1
        if self._in_flight == 0 and self._on_idle is not None:
            self._on_idle()

    def refuse_new_calls(self, on_idle: Callable[[], None]) -> None:
        """Take no more calls, and call `on_idle` once none is in flight, at once if none is now."""
        self._draining = True
        self._on_idle = on_idle
        if self._in_flight == 0:
            on_idle()

    def _note_pace(self, held_s: float) -> None:
        self._held_s += (held_s - self._held_s) / (PACE_OF if self._held_s else 1)

    def _room(self) -> float:
        """How many may wait: what leaves the places, all of them taken, in the time of the queue."""
        limits = self._limits
        if not self._held_s:
            return limits.max_queued_calls
        return min(
            limits.max_queued_calls, limits.max_concurrent_calls * limits.queue_timeout_s / self._held_s
        )

    def _forget(self, caller: str) -> None:
        if caller:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]
