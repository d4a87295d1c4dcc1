"""Admission control: bounds the calls in flight and the calls queued, and rejects the rest.

A call is accepted before its message is read, so a rejected call costs no more than its headers. It
acquires its permit once its request is read and valid, so a caller that sends slowly keeps no other
call from its turn. When every permit is in use, a few calls wait in a queue that is fair between parties
(`fair_queue`). The queue holds no more calls than can get a permit within the queue timeout at the pace of
recent calls (Little's law). This module knows no frontend: the session bounds the wait, and releases the
permit whenever and however the call ends.

What keeps one party from taking everything:

- Idle capacity is free to all, and permits are not taken back. But of the last tenth of the permits a party
  gets none beyond its share, while other parties have called within a minute (`party_shares`).
- When CPU time is short, a party that holds less than its share of the permits in use is accepted.
- When the service is full and another party calls, the party with the most calls that are being read or
  queued gives up its newest one, which fails with OVERLOADED.
"""

import asyncio
import enum
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

from togetherchat_server.calls.fair_queue import FairQueue, Priority
from togetherchat_server.calls.party_shares import PartyShares
from togetherchat_server.domain.deadline import Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError

QUEUE_TIMEOUT_MESSAGE: Final = "no capacity became free within the queue timeout; retry later"
SHED_MESSAGE: Final = "the service is full, and this caller has the most calls waiting; retry later"
AVERAGED_CALLS: Final = 64
"""The average duration of a call is taken over about this many recent calls."""
RESERVED_RATIO: Final = 0.1
"""Fraction of the permits of which no party gets more than its share."""
WEIGHT: Final = 1.0
"""The weight of a party whose tenant has none, and of a caller without a tenant."""


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

    __slots__ = ("caller", "granted", "granted_s", "on_shed", "party", "state", "weight")

    def __init__(self, caller: str, party: str, weight: float) -> None:
        self.caller = caller
        self.party = party
        self.weight = weight
        self.state = PermitState.ACCEPTED
        self.granted: asyncio.Future[None] | None = None
        """Completes when the queued call gets capacity, or fails when it is given up."""
        self.granted_s = 0.0
        self.on_shed: Callable[[ServiceError], None] | None = None
        """Called with the error of a call that is given up while its request is being read."""


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
        self._queue: FairQueue[Permit] = FairQueue()
        self._reading: dict[str, OrderedDict[Permit, None]] = {}
        """By party the calls whose request is being read, in the order of their arrival."""
        self._shares = PartyShares(clock=clock)
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

    def accept(self, caller: str = "", *, party: str = "", weight: float = WEIGHT) -> Permit:
        """Accept a call before it is read.

        Args:
            caller: identifies the caller; empty if unknown.
            party: with whom the call shares capacity; the caller if empty. A call of nobody known has no
                share, and displaces nobody.
            weight: share of the party, relative to those of others.

        Raises:
            ServiceError: OVERLOADED, CALLER_QUOTA, or DRAINING when the service is stopping.
        """
        self._reject_at_once(caller)
        party = party or caller
        if party:
            self._shares.called(party, weight)
        if self._saturated() and self._holds_its_share(party):
            raise ServiceError(Reason.OVERLOADED, "the service is short of CPU time; retry later")
        given_up = self._room_for(party)
        if self._quotas is not None:
            self._quotas.enter(caller)
        if given_up is not None:
            self._shed(given_up)
        self._accepted += 1
        if caller:
            self._calls_by_caller[caller] += 1
        permit = Permit(caller, party, weight)
        self._reading.setdefault(party, OrderedDict())[permit] = None
        return permit

    async def acquire(
        self,
        permit: Permit,
        *,
        party: str = "",
        priority: Priority = Priority.NORMAL,
        deadline_s: float = 0.0,
    ) -> float:
        """Wait until an accepted call has capacity. Return the time in the queue, in seconds.

        A call that has capacity already keeps it.

        Args:
            permit: of the call.
            party: with whom the call shares capacity, if that was not known when it was accepted.
            priority: of the call among those of its party.
            deadline_s: when the call must have ended, on the clock of this object.

        Raises:
            ServiceError: OVERLOADED after the queue timeout, or because the call was given up.
        """
        if permit.state is not PermitState.ACCEPTED:
            return 0.0
        granted = self.request(permit, party=party, priority=priority, deadline_s=deadline_s)
        if granted is None:
            return 0.0
        began_s = self._clock()
        async with Deadline(self._limits.queue_timeout_s, Reason.OVERLOADED, QUEUE_TIMEOUT_MESSAGE):
            await granted
        return self._clock() - began_s

    def request(
        self,
        permit: Permit,
        *,
        party: str = "",
        priority: Priority = Priority.NORMAL,
        deadline_s: float = 0.0,
    ) -> "asyncio.Future[None] | None":
        """Grant capacity to an accepted call, or queue it.

        Returns a future that completes when a queued call gets its capacity; None if it has it at once.
        """
        self._end_reading(permit)
        if party and not permit.party:
            permit.party = party
            self._shares.called(party, permit.weight)
        if not self._queue.length(permit.party) and self._may_take(permit.party):
            self._grant(permit)
            return None
        permit.state = PermitState.QUEUED
        permit.granted = asyncio.get_running_loop().create_future()
        self._queue.add(permit, permit.party, weight=permit.weight, priority=priority, deadline_s=deadline_s)
        return permit.granted

    def release(self, permit: Permit) -> None:
        """Release whatever the call has. Its capacity goes to the next call in the queue."""
        state, permit.state = permit.state, PermitState.RELEASED
        if state is PermitState.RELEASED:
            return
        if self._quotas is not None:
            self._quotas.leave(permit.caller)
        self._uncount(permit.caller)
        self._accepted -= 1
        if state is PermitState.ACCEPTED:
            self._end_reading(permit)
        elif state is PermitState.QUEUED:
            self._queue.remove(permit)
        else:
            self._record_duration(self._clock() - permit.granted_s)
            self._granted -= 1
            if permit.party:
                self._shares.released(permit.party)
        if self._queue:
            self._pass_on_capacity()
        if self._accepted == 0 and self._on_idle is not None:
            self._on_idle()

    def start_draining(self, on_idle: Callable[[], None]) -> None:
        """Reject new calls, and call `on_idle` when no call is left: at once if that is so now."""
        self._draining = True
        self._on_idle = on_idle
        if self._accepted == 0:
            on_idle()

    def _reject_at_once(self, caller: str) -> None:
        """Raise ServiceError if the call cannot be accepted, regardless of other callers."""
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

    def _room_for(self, party: str) -> Permit | None:
        """Return the call that makes room for one of `party`; None if there is room. Raises ServiceError."""
        limit = self._limits.max_concurrent_calls
        over = self._accepted - limit
        if over < 0 or over < self._queue_capacity():
            return None
        given_up = self._given_up_for(party)
        if given_up is None:
            raise ServiceError(
                Reason.OVERLOADED, f"the service has {limit} calls in flight, its limit; retry later"
            )
        return given_up

    def _may_take(self, party: str) -> bool:
        """Return whether a party may have one more permit now."""
        permits = self._limits.max_concurrent_calls
        free = permits - self._granted
        if not party or free > int(permits * RESERVED_RATIO):
            return free > 0
        return free > 0 and self._shares.held(party) < permits * self._shares.share(party)

    def _holds_its_share(self, party: str) -> bool:
        """Return whether a party has its share of the permits in use. Alone, or unknown, it has."""
        return not party or self._shares.held(party) >= self._granted * self._shares.share(party)

    def _grant(self, permit: Permit) -> None:
        self._granted += 1
        if permit.party:
            self._shares.granted(permit.party, permit.weight)
        permit.state = PermitState.GRANTED
        permit.granted_s = self._clock()

    def _pass_on_capacity(self) -> None:
        """Grant free permits to queued calls."""
        while self._granted < self._limits.max_concurrent_calls:
            permit = self._queue.take(self._may_take)
            if permit is None:
                return
            self._grant(permit)
            if permit.granted is not None and not permit.granted.done():
                permit.granted.set_result(None)

    def _given_up_for(self, party: str) -> Permit | None:
        """Return the call that makes room for one of `party`; None if no other party has more waiting."""
        if not party:
            return None
        parties = {*self._reading, *self._queue.parties()}
        longest = max(parties, key=self._waiting, default=party)
        if self._waiting(longest) <= self._waiting(party) + 1:
            return None
        if self._queue.length(longest):
            return self._queue.newest(longest)
        return next(reversed(self._reading[longest]))

    def _waiting(self, party: str) -> int:
        """Return how many calls of a party are being read or queued."""
        return len(self._reading.get(party, ())) + self._queue.length(party)

    def _shed(self, permit: Permit) -> None:
        """End a call that has no capacity yet with OVERLOADED."""
        error = ServiceError(Reason.OVERLOADED, SHED_MESSAGE)
        granted, on_shed = permit.granted, permit.on_shed
        self.release(permit)
        if granted is not None and not granted.done():
            granted.set_exception(error)
            granted.exception()  # retrieved: the call may be cancelled before it is woken
        elif granted is None and on_shed is not None:
            on_shed(error)

    def _end_reading(self, permit: Permit) -> None:
        permit.on_shed = None  # it refers to the call, which refers to the permit
        reading = self._reading[permit.party]
        del reading[permit]
        if not reading:
            del self._reading[permit.party]

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
