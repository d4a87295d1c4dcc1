"""Whether a request is worth sending: what the provider's last answers for a key and model say.

Pure: times and chance are arguments. Two things are remembered for each pair of upstream key
and model, since the provider's limits are per organisation and model, and one caller's trouble
must not reach another.

- *A wait that was asked for.* Until it is over, requests would only be refused: they are
  answered here, with what is left of the wait.
- *How many requests were accepted.* When fewer than half were, requests are dropped with the
  chance max(0, (requests - 2 accepts) / (requests + 1)), at most 0.9, so that probes flow and
  recovery is seen (adaptive throttling, as in Google's SRE book, "Handling overload"). A request
  counts when its outcome is known, for answers take long and what is still running says
  nothing; a dropped one counts too. An accept is any answer that is no overload and no broken
  connection; a caller who left is neither.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, final

from togetherchat_server.errors import Kind, ServiceError
from togetherchat_server.upstream.retry import CLASSES, Class

WINDOW_S: Final = 30.0
REQUESTS_MIN: Final = 20
"""In a window, before anything is dropped: a few failures say nothing."""
DROP_MAX: Final = 0.9
HOLD_MAX_S: Final = 30.0
PAIRS_MAX: Final = 4096

RATE: Final = frozenset({Kind.RATE_LIMITED, Kind.RATE_LIMITED_REQUESTS, Kind.RATE_LIMITED_TOKENS})
NEITHER: Final = frozenset(
    {Kind.CALLER_CANCELLED, Kind.CALLER_DEADLINE, Kind.CALL_TIMEOUT, Kind.CALLER_STALLED}
)
NOT_ACCEPTED: Final = frozenset(
    {kind for kind, class_ in CLASSES.items() if class_ is not Class.COSTLY and kind not in RATE}
    | {Kind.UPSTREAM_RESET, Kind.UPSTREAM_GATEWAY_TIMEOUT, Kind.FIRST_TOKEN_TIMEOUT, Kind.UPSTREAM_TLS_FAILED}
)
"""What counts against the provider. A rate limit does not: the provider works, and says how long."""


@final
@dataclass(slots=True)
class _Pair:
    """What is remembered of one key and model."""

    requests: deque[float] = field(default_factory=deque[float])
    accepts: deque[float] = field(default_factory=deque[float])
    held_until_s: float = 0.0
    held_as: Kind = Kind.RATE_LIMITED


@final
class Breaker:
    """Asked before each request, told after each."""

    def __init__(self, *, pairs_max: int = PAIRS_MAX) -> None:
        self._pairs: OrderedDict[Hashable, _Pair] = OrderedDict()
        self._pairs_max = pairs_max

    def admit(self, pair: Hashable, *, now_s: float, fraction: float) -> None:
        """Let a request pass, or refuse it.

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
        drop = _drop_chance(len(known.requests), len(known.accepts))
        if fraction < drop:
            known.requests.append(now_s)
            raise ServiceError(Kind.UPSTREAM_OVERLOADED, "the provider has refused most of the last requests")

    def succeeded(self, pair: Hashable, *, now_s: float) -> None:
        """The request was accepted."""
        known = self._known(pair, now_s)
        known.requests.append(now_s)
        known.accepts.append(now_s)

    def failed(self, pair: Hashable, error: ServiceError, *, now_s: float) -> None:
        """The request ended so."""
        known = self._known(pair, now_s)
        if error.kind in NEITHER:
            return
        known.requests.append(now_s)
        if error.kind not in NOT_ACCEPTED:
            known.accepts.append(now_s)
        if error.kind in RATE and error.retry_after_s is not None:
            known.held_until_s = now_s + min(error.retry_after_s, HOLD_MAX_S)
            known.held_as = error.kind

    def _known(self, pair: Hashable, now_s: float) -> _Pair:
        known = self._pairs.pop(pair, None) or _Pair()
        self._pairs[pair] = known
        if len(self._pairs) > self._pairs_max:
            self._pairs.popitem(last=False)
        for times in (known.requests, known.accepts):
            while times and times[0] <= now_s - WINDOW_S:
                times.popleft()
        return known


def _drop_chance(requests: int, accepts: int) -> float:
    if requests < REQUESTS_MIN:
        return 0.0
    return min(DROP_MAX, max(0.0, (requests - 2 * accepts) / (requests + 1)))
