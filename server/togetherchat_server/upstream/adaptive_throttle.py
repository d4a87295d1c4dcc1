"""Rejects requests to the provider while most of them fail (adaptive throttling).

Pure: times and chance are arguments. State is kept for each pair of upstream key and model, since the
provider's limits are per organisation and model, and one caller's failures must not affect another.
Two things are remembered:

- *A delay that the provider requested.* Until it is over, requests would only be rejected: they fail
  here, with the rest of the delay.
- *Recent outcomes.* When fewer than half of the requests with an outcome were accepted, requests are
  dropped with the chance max(0, (outcomes - 2 accepts) / (outcomes + 1)), at most 0.9, so that probes
  flow and recovery is noticed (adaptive throttling, as in Google's SRE book, "Handling overload"). An
  accept is any response that is neither an overload nor a broken connection. A call that the caller
  ended counts as neither. A rate limit is an accept: the provider works and names a delay. The table
  of reasons has the outcome for each (`ThrottleOutcome`).

Two things differ from the book. A request counts when its outcome is known: completions take seconds
here, and fifty that are still being generated are not evidence against the provider. And a dropped
request does not count: the window then holds nothing but what the provider did, so that full service
returns, at the latest, one window after the provider has recovered.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, final

from togetherchat_server.domain.reasons import Reason, ServiceError, ThrottleOutcome

WINDOW_S: Final = 10.0
OUTCOMES_MIN: Final = 20
"""Outcomes needed in a window before anything is dropped: a few failures prove nothing."""
DROP_CHANCE_MAX: Final = 0.9
HOLD_MAX_S: Final = 30.0
PAIRS_MAX: Final = 4096


@final
@dataclass(slots=True)
class _PairState:
    """The state of one pair of upstream key and model."""

    outcomes: deque[float] = field(default_factory=deque[float])
    accepts: deque[float] = field(default_factory=deque[float])
    held_until_s: float = 0.0
    held_reason: Reason = Reason.RATE_LIMITED


@final
class AdaptiveThrottle:
    """Call `admit` before each request, and `succeeded` or `failed` with its outcome."""

    def __init__(self, *, pairs_max: int = PAIRS_MAX) -> None:
        self._pairs: OrderedDict[Hashable, _PairState] = OrderedDict()
        self._pairs_max = pairs_max

    def admit(self, pair: Hashable, *, now_s: float, fraction: float) -> None:
        """Admit a request, or reject it.

        Raises:
            ServiceError: the reason with which the provider requested a delay, or UPSTREAM_OVERLOADED.
        """
        state = self._state(pair, now_s)
        if now_s < state.held_until_s:
            raise ServiceError(
                state.held_reason,
                "the provider asked to wait before more requests are sent",
                retry_after_s=state.held_until_s - now_s,
            )
        if fraction < _drop_chance(len(state.outcomes), len(state.accepts)):
            raise ServiceError(
                Reason.UPSTREAM_OVERLOADED, "the provider has rejected most of the last requests"
            )

    def is_open(self, pair: Hashable, *, now_s: float) -> bool:
        """Return whether requests are being dropped: a request that is admitted meanwhile is a probe."""
        state = self._state(pair, now_s)
        return _drop_chance(len(state.outcomes), len(state.accepts)) > 0

    def succeeded(self, pair: Hashable, *, now_s: float) -> None:
        """Record that the provider accepted an admitted request."""
        state = self._state(pair, now_s)
        state.outcomes.append(now_s)
        state.accepts.append(now_s)

    def failed(self, pair: Hashable, error: ServiceError, *, now_s: float) -> None:
        """Record the error of an admitted request."""
        outcome = error.reason.row.throttle
        if outcome is ThrottleOutcome.IGNORED:
            return
        state = self._state(pair, now_s)
        state.outcomes.append(now_s)
        if outcome is not ThrottleOutcome.REJECTED:
            state.accepts.append(now_s)
        if outcome is ThrottleOutcome.HELD and error.retry_after_s is not None:
            state.held_until_s = now_s + min(error.retry_after_s, HOLD_MAX_S)
            state.held_reason = error.reason

    def held(self, *, now_s: float) -> int:
        """Return the number of pairs whose delay is not over."""
        return sum(now_s < state.held_until_s for state in self._pairs.values())

    def dropping(self, *, now_s: float) -> int:
        """Return the number of pairs of which a share of the requests is dropped."""
        dropping = 0
        for state in self._pairs.values():
            _forget_old(state, now_s)
            dropping += _drop_chance(len(state.outcomes), len(state.accepts)) > 0
        return dropping

    def _state(self, pair: Hashable, now_s: float) -> _PairState:
        state = self._pairs.pop(pair, None) or _PairState()
        self._pairs[pair] = state
        if len(self._pairs) > self._pairs_max:
            self._pairs.popitem(last=False)
        _forget_old(state, now_s)
        return state


def _forget_old(state: _PairState, now_s: float) -> None:
    for times in (state.outcomes, state.accepts):
        while times and times[0] <= now_s - WINDOW_S:
            times.popleft()


def _drop_chance(outcomes: int, accepts: int) -> float:
    if outcomes < OUTCOMES_MIN:
        return 0.0
    return min(DROP_CHANCE_MAX, max(0.0, (outcomes - 2 * accepts) / (outcomes + 1)))
