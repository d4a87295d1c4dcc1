"""Admission control: bounds the calls in flight and the calls queued, and rejects the rest.

A call is accepted before its message is read, so a rejected call costs no more than its headers. It
acquires its permit once its request is read and valid, so a caller that sends slowly keeps no other
call from its turn. When every permit is in use, a few calls wait in a queue, first come, first served.
The queue holds no more calls than can get a permit within the queue timeout at the pace of recent
calls (Little's law); a call that would time out in the queue is rejected at once. This module knows no
frontend: the session bounds the wait, and releases the permit whenever and however the call ends.
"""

import asyncio
import enum
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

from togetherchat_server.domain.deadline import Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError

QUEUE_TIMEOUT_MESSAGE: Final = "no capacity became free within the queue timeout; retry later"
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


class PermitState(enum.Enum):
    """What an accepted call has."""

    ACCEPTED = "its request is being read"
    QUEUED = "an entry in the queue"
    GRANTED = "capacity"
    RELEASED = "nothing: the call has ended"


@final
class Permit:
    """An accepted call: at first a claim to capacity, then an entry in the queue or the capacity itself."""

    __slots__ = ("caller", "granted_s", "state")

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.state = PermitState.ACCEPTED
        self.granted_s = 0.0


@final
class Admission:
    """Admission control for the calls of one process."""

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        clock: Callable[[], float],
        short_of_memory: Callable[[], bool] = lambda: False,
        saturated: Callable[[], bool] = lambda: False,
        quotas: Quotas | None = None,
    ) -> None:
        """`quotas` are checked last, so that a call rejected for another reason consumes none of them."""
        self._limits = limits
        self._clock = clock
        self._short_of_memory = short_of_memory
        self._saturated = saturated
        self._quotas = quotas
        self._accepted = 0
        self._granted = 0
        self._average_s = 0.0
        self._calls_by_caller: Counter[str] = Counter()
        self._queue: OrderedDict[Permit, asyncio.Future[None]] = OrderedDict()
        self._draining = False
        self._on_idle: Callable[[], None] | None = None

    @property
    def in_flight(self) -> int:
        """Accepted calls that are not queued: they hold a permit, or their request is being read."""
        return self._accepted - len(self._queue)

    @property
    def queued(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def accept(self, caller: str = "") -> Permit:
        """Accept a call before it is read. `caller` identifies the caller; empty if unknown.

        Raises:
            ServiceError: OVERLOADED, CALLER_QUOTA, or DRAINING when the service is stopping.
        """
        limits = self._limits
        if self._draining:
            raise ServiceError(Reason.DRAINING, "the service is stopping; retry on another replica")
        if self._short_of_memory():
            raise ServiceError(Reason.OVERLOADED, "the service is short of memory; retry later")
        if self._saturated():
            raise ServiceError(Reason.OVERLOADED, "the service is short of CPU time; retry later")
        if caller and 0 < limits.max_concurrent_calls_per_caller <= self._calls_by_caller[caller]:
            raise ServiceError(
                Reason.CALLER_QUOTA,
                f"you have {limits.max_concurrent_calls_per_caller} calls in flight, "
                "the limit for one caller; retry when one has finished",
            )
        over = self._accepted - limits.max_concurrent_calls
        if over >= 0 and over >= self._queue_capacity():
            raise ServiceError(
                Reason.OVERLOADED,
                f"the service has {limits.max_concurrent_calls} calls in flight, its limit; retry later",
            )
        if self._quotas is not None:
            self._quotas.enter(caller)
        self._accepted += 1
        if caller:
            self._calls_by_caller[caller] += 1
        return Permit(caller)

    async def acquire(self, permit: Permit) -> float:
        """Wait until an accepted call has capacity. Return the time in the queue, in seconds.

        A call that has capacity already keeps it.

        Raises:
            ServiceError: OVERLOADED after the queue timeout.
        """
        if permit.state is not PermitState.ACCEPTED:
            return 0.0
        granted = self.request(permit)
        if granted is None:
            return 0.0
        began_s = self._clock()
        async with Deadline(self._limits.queue_timeout_s, Reason.OVERLOADED, QUEUE_TIMEOUT_MESSAGE):
            await granted
        return self._clock() - began_s

    def request(self, permit: Permit) -> asyncio.Future[None] | None:
        """Grant capacity to an accepted call, or queue it.

        Returns a future that completes when a queued call gets its capacity; None if it has it at once.
        """
        if self._granted < self._limits.max_concurrent_calls:
            self._granted += 1
            self._grant(permit)
            return None
        permit.state = PermitState.QUEUED
        self._queue[permit] = granted = asyncio.get_running_loop().create_future()
        return granted

    def release(self, permit: Permit) -> None:
        """Release whatever the call has. Its capacity goes to the first call in the queue."""
        state, permit.state = permit.state, PermitState.RELEASED
        if state is PermitState.RELEASED:
            return
        if self._quotas is not None:
            self._quotas.leave(permit.caller)
        self._uncount(permit.caller)
        self._accepted -= 1
        if state is PermitState.QUEUED:
            del self._queue[permit]
        elif state is PermitState.GRANTED:
            self._record_duration(self._clock() - permit.granted_s)
            self._pass_on_capacity()
        if self._accepted == 0 and self._on_idle is not None:
            self._on_idle()

    def start_draining(self, on_idle: Callable[[], None]) -> None:
        """Reject new calls, and call `on_idle` when no call is left: at once if that is so now."""
        self._draining = True
        self._on_idle = on_idle
        if self._accepted == 0:
            on_idle()

    def _grant(self, permit: Permit) -> None:
        permit.state = PermitState.GRANTED
        permit.granted_s = self._clock()

    def _pass_on_capacity(self) -> None:
        if not self._queue:
            self._granted -= 1
            return
        following, granted = self._queue.popitem(last=False)
        self._grant(following)
        if not granted.done():
            granted.set_result(None)

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
