"""Whether a request is worth sending: what the provider's last answers for a key and model say.

Pure: times and chance are arguments. Two things are remembered for each pair of upstream key
and model, since the provider's limits are per organisation and model, and one caller's trouble
must not reach another.

- *A wait that was asked for.* Until it is over, requests would only be refused: they are
  answered here, with what is left of the wait.
- *What its answers were.* When fewer than half of the requests that had an outcome were
  accepted, requests are dropped with the chance max(0, (outcomes - 2 accepts) / (outcomes + 1)),
  at most 0.9, so that probes flow and recovery is seen (adaptive throttling, as in Google's SRE
  book, "Handling overload"). An accept is any answer that is no overload and no broken
  connection; a caller who left is neither.

Two things differ from the book. A request counts when its outcome is known: answers take
seconds here, and fifty that are still being written say nothing against whoever writes them.
And what was dropped does not count: the window then holds nothing but what the provider did, so
that full service is back, at the latest, one window after its return.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, final

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream.retry_policy import ATTEMPT_CLASSES, AttemptClass

WINDOW_S: Final = 10.0
OUTCOMES_MIN: Final = 20
"""In a window, before anything is dropped: a few failures say nothing."""
DROP_MAX: Final = 0.9
HOLD_MAX_S: Final = 30.0
PAIRS_MAX: Final = 4096

RATE: Final = frozenset({Reason.RATE_LIMITED, Reason.RATE_LIMITED_REQUESTS, Reason.RATE_LIMITED_TOKENS})
NEITHER: Final = frozenset(
    {Reason.CALLER_CANCELLED, Reason.CALLER_DEADLINE, Reason.CALL_TIMEOUT, Reason.CALLER_STALLED}
)
NOT_ACCEPTED: Final = frozenset(
    {
        reason
        for reason, class_ in ATTEMPT_CLASSES.items()
        if class_ is not AttemptClass.COSTLY and reason not in RATE
    }
    | {
        Reason.UPSTREAM_RESET,
        Reason.UPSTREAM_GATEWAY_TIMEOUT,
        Reason.FIRST_TOKEN_TIMEOUT,
        Reason.UPSTREAM_TLS_FAILED,
    }
)
"""What counts against the provider. A rate limit does not: the provider works, and says how long."""


@final
@dataclass(slots=True)
class _Pair:
    """What is remembered of one key and model."""

    outcomes: deque[float] = field(default_factory=deque[float])
    accepts: deque[float] = field(default_factory=deque[float])
    held_until_s: float = 0.0
    held_as: Reason = Reason.RATE_LIMITED


@final
class AdaptiveThrottle:
    """Asked before each request, told what became of it."""

    def __init__(self, *, pairs_max: int = PAIRS_MAX) -> None:
        self._pairs: OrderedDict[Hashable, _Pair] = OrderedDict()
        self._pairs_max = pairs_max

    def admit(self, pair: Hashable, *, now_s: float, fraction: float) -> None:
        """Let a request through, or refuse it.

        Raises:
            ServiceError: as the provider answered when it asked to wait, or UPSTREAM_OVERLOADED.
        """
        known = self._known(pair, now_s)
        if now_s < known.held_until_s:
            raise ServiceError(
                known.held_as,
                "the provider asked to wait before more is sent",
                retry_after_s=known.held_until_s - now_s,
            )
        if fraction < _drop_chance(len(known.outcomes), len(known.accepts)):
            raise ServiceError(
                Reason.UPSTREAM_OVERLOADED, "the provider has refused most of the last requests"
            )

    def is_open(self, pair: Hashable, *, now_s: float) -> bool:
        """Whether requests are being dropped: what is let through then is a probe."""
        known = self._known(pair, now_s)
        return _drop_chance(len(known.outcomes), len(known.accepts)) > 0

    def succeeded(self, pair: Hashable, *, now_s: float) -> None:
        """A request that was let through was accepted."""
        known = self._known(pair, now_s)
        known.outcomes.append(now_s)
        known.accepts.append(now_s)

    def failed(self, pair: Hashable, error: ServiceError, *, now_s: float) -> None:
        """A request that was let through ended so."""
        if error.reason in NEITHER:
            return
        known = self._known(pair, now_s)
        known.outcomes.append(now_s)
        if error.reason not in NOT_ACCEPTED:
            known.accepts.append(now_s)
        if error.reason in RATE and error.retry_after_s is not None:
            known.held_until_s = now_s + min(error.retry_after_s, HOLD_MAX_S)
            known.held_as = error.reason

    def held(self, *, now_s: float) -> int:
        """Before how many pairs a wait that was asked for is not over."""
        return sum(now_s < known.held_until_s for known in self._pairs.values())

    def dropping(self, *, now_s: float) -> int:
        """Of how many pairs a share of the requests is dropped."""
        dropping = 0
        for known in self._pairs.values():
            _forget_old(known, now_s)
            dropping += _drop_chance(len(known.outcomes), len(known.accepts)) > 0
        return dropping

    def _known(self, pair: Hashable, now_s: float) -> _Pair:
        known = self._pairs.pop(pair, None) or _Pair()
        self._pairs[pair] = known
        if len(self._pairs) > self._pairs_max:
            self._pairs.popitem(last=False)
        _forget_old(known, now_s)
        return known


def _forget_old(known: _Pair, now_s: float) -> None:
    for times in (known.outcomes, known.accepts):
        while times and times[0] <= now_s - WINDOW_S:
            times.popleft()


def _drop_chance(outcomes: int, accepts: int) -> float:
    if outcomes < OUTCOMES_MIN:
        return 0.0
    return min(DROP_MAX, max(0.0, (outcomes - 2 * accepts) / (outcomes + 1)))
