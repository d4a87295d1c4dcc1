"""Admission control: bounds the calls in flight and the calls queued, and rejects the rest.

A call acquires its permit before its message is read, so a rejected call costs no more than its
headers. When every permit is in use, a few calls wait in a queue, first come, first served. The
queue holds no more calls than can get a permit within the queue timeout at the pace of recent calls
(Little's law); a call that would time out in the queue is rejected at once. This module knows no
frontend: a frontend bounds the wait, and releases the permit whenever and however the call's task
ends.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

from togetherchat_server.domain.reasons import Reason, ServiceError

AVERAGED_CALLS: Final = 64
"""The average duration of a call is taken over about this many recent calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """The bounds of one process. `max_concurrent_calls_per_caller` counts by caller; 0 means unlimited."""

    max_concurrent_calls: int
    max_queued_calls: int = 0
    queue_timeout_s: float = 0.25
    max_concurrent_calls_per_caller: int = 0


class Quotas(Protocol):
    """Bounds of single callers, kept elsewhere. Each `enter` is followed by exactly one `leave`."""

    def enter(self, caller: str, /) -> None:
        """Count a call of this caller. Raises ServiceError CALLER_QUOTA."""
        ...

    def leave(self, caller: str, /) -> None: ...


@final
class Permit:
    """Capacity for one call, or its entry in the queue.

    `granted` is a future that completes when a queued call gets its capacity; None if the call had it
    at once.
    """

    __slots__ = ("acquired_s", "caller", "granted")

    def __init__(self, caller: str, acquired_s: float) -> None:
        self.caller = caller
        self.acquired_s = acquired_s
        self.granted: asyncio.Future[None] | None = None


@final
class Admission:
    """Admission control for the calls of one process."""

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        clock: Callable[[], float],
        short_of_memory: Callable[[], bool] = lambda: False,
        quotas: Quotas | None = None,
    ) -> None:
        """`quotas` are checked last, so that a call rejected for another reason consumes none of them."""
        self._limits = limits
        self._clock = clock
        self._short_of_memory = short_of_memory
        self._quotas = quotas
        self._in_flight = 0
        self._average_s = 0.0
        self._calls_by_caller: Counter[str] = Counter()
        self._queue: OrderedDict[Permit, asyncio.Future[None]] = OrderedDict()
        self._draining = False
        self._on_idle: Callable[[], None] | None = None

    @property
    def in_flight(self) -> int:
        """Calls that hold a granted permit."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def acquire(self, caller: str = "") -> Permit:
        """Return a permit, or an entry in the queue. `caller` identifies the caller; empty if unknown.

        Raises:
            ServiceError: OVERLOADED, CALLER_QUOTA, or DRAINING when the service is stopping.
        """
        limits = self._limits
        if self._draining:
            raise ServiceError(Reason.DRAINING, "the service is stopping; retry on another replica")
        if self._short_of_memory():
            raise ServiceError(Reason.OVERLOADED, "the service is short of memory; retry later")
        if caller and 0 < limits.max_concurrent_calls_per_caller <= self._calls_by_caller[caller]:
            raise ServiceError(
                Reason.CALLER_QUOTA,
                f"you have {limits.max_concurrent_calls_per_caller} calls in flight, "
                "the limit for one caller; retry when one has finished",
            )
        has_capacity = self._in_flight < limits.max_concurrent_calls
        if not (has_capacity or len(self._queue) < self._queue_capacity()):
            raise ServiceError(
                Reason.OVERLOADED,
                f"the service has {limits.max_concurrent_calls} calls in flight, its limit; retry later",
            )
        if self._quotas is not None:
            self._quotas.enter(caller)
        permit = Permit(caller, self._clock())
        if has_capacity:
            self._in_flight += 1
        else:
            permit.granted = self._queue[permit] = asyncio.get_running_loop().create_future()
        if caller:
            self._calls_by_caller[caller] += 1
        return permit

    def release(self, permit: Permit) -> None:
        """Release a permit, exactly once. Its capacity goes to the first call in the queue."""
        if self._quotas is not None:
            self._quotas.leave(permit.caller)
        self._uncount(permit.caller)
        if self._queue.pop(permit, None) is not None:
            return
        now_s = self._clock()
        self._record_duration(now_s - permit.acquired_s)
        if self._queue:
            following, granted = self._queue.popitem(last=False)
            following.acquired_s = now_s
            if not granted.done():
                granted.set_result(None)
            return
        self._in_flight -= 1
        if self._in_flight == 0 and self._on_idle is not None:
            self._on_idle()

    def start_draining(self, on_idle: Callable[[], None]) -> None:
        """Reject new calls, and call `on_idle` when no call is in flight: at once if that is so now."""
        self._draining = True
        self._on_idle = on_idle
        if self._in_flight == 0:
            on_idle()

    def _record_duration(self, duration_s: float) -> None:
        self._average_s += (duration_s - self._average_s) / (AVERAGED_CALLS if self._average_s else 1)

    def _queue_capacity(self) -> float:
        """Return how many calls may wait: as many as will finish within the queue timeout at full load."""
        limits = self._limits
        if not self._average_s:
            return limits.max_queued_calls
        return min(
            limits.max_queued_calls, limits.max_concurrent_calls * limits.queue_timeout_s / self._average_s
        )

    def _uncount(self, caller: str) -> None:
        if caller:
            self._calls_by_caller[caller] -= 1
            if not self._calls_by_caller[caller]:
                del self._calls_by_caller[caller]
