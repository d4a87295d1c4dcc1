"""Whether a failed attempt is tried again, and when. Pure: no clock, no chance, no waiting.

The theory. One layer retries, this one; callers are told not to where it would not help. An
attempt is tried again only while nothing of an answer was handed on, which is the business of
whoever asks here. What failed falls into three classes:

- nothing reached the provider (refused, no name, no connection in time): free, and safe;
- the provider said that it did not do the work (rate limit, overload, a bad gateway): safe;
- the work may have been done and billed (500, a broken connection, no answer in time): tried
  again only where the operator says so, and once.

Everything else repeats or is the caller's to mend. The waits are drawn from nought to a bound
that doubles ("full jitter"), so that callers that failed together do not come back together.
A wait that the provider asked for is a minimum; where it does not fit what is left of the
deadline, or is longer than anyone would wait, the failure is answered now and says the wait.

A budget bounds the sum: a tenth of the first attempts of the last ten seconds, and one a
second besides. When everything fails, retries stay a tenth of the load instead of doubling it.
"""

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.domain.reasons import Reason, ServiceError


@final
class AttemptClass(enum.Enum):
    """What another attempt would cost."""

    UNREACHED = "nothing reached the provider"
    DECLINED = "the provider did not do the work"
    COSTLY = "the work may have been done and billed"


ATTEMPT_CLASSES: Final[Mapping[Reason, AttemptClass]] = {
    Reason.UPSTREAM_CONNECT_FAILED: AttemptClass.UNREACHED,
    Reason.UPSTREAM_DNS_FAILED: AttemptClass.UNREACHED,
    Reason.UPSTREAM_CONNECT_TIMEOUT: AttemptClass.UNREACHED,
    Reason.UPSTREAM_REQUEST_TIMEOUT: AttemptClass.DECLINED,
    Reason.UPSTREAM_CONFLICT: AttemptClass.DECLINED,
    Reason.RATE_LIMITED: AttemptClass.DECLINED,
    Reason.RATE_LIMITED_REQUESTS: AttemptClass.DECLINED,
    Reason.RATE_LIMITED_TOKENS: AttemptClass.DECLINED,
    Reason.UPSTREAM_BAD_GATEWAY: AttemptClass.DECLINED,
    Reason.UPSTREAM_OVERLOADED: AttemptClass.DECLINED,
    Reason.UPSTREAM_EDGE_ERROR: AttemptClass.DECLINED,
    Reason.UPSTREAM_EDGE_UNREACHABLE: AttemptClass.DECLINED,
    Reason.UPSTREAM_INTERNAL: AttemptClass.COSTLY,
    Reason.UPSTREAM_RESET: AttemptClass.COSTLY,
    Reason.FIRST_TOKEN_TIMEOUT: AttemptClass.COSTLY,
}
"""What may be tried again. A reason that is not here never is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The bounds. Durations in seconds."""

    retries_max: int = 2
    costly_retries_max: int = 0
    wait_first_s: float = 0.25
    wait_max_s: float = 8.0
    asked_wait_max_s: float = 30.0


def decide(
    error: ServiceError, *, attempt: int, seconds_left: float, fraction: float, policy: RetryPolicy
) -> float | None:
    """How long to wait before the next attempt, in seconds; None to answer with the error.

    Args:
        error: what the last attempt ended with.
        attempt: its number, 1 for the first.
        seconds_left: of the call's deadline.
        fraction: a random number from 0 to 1.
        policy: the bounds.
    """
    class_ = ATTEMPT_CLASSES.get(error.reason)
    if class_ is None:
        return None
    retries_max = policy.costly_retries_max if class_ is AttemptClass.COSTLY else policy.retries_max
    if attempt > retries_max:
        return None
    wait_s = _wait_s(error.retry_after_s, attempt, fraction, policy)
    return None if wait_s is None or wait_s >= seconds_left else wait_s


def _wait_s(asked_s: float | None, attempt: int, fraction: float, policy: RetryPolicy) -> float | None:
    drawn_s = fraction * min(policy.wait_max_s, policy.wait_first_s * 2 ** (attempt - 1))
    if asked_s is None:
        return drawn_s
    if asked_s > policy.asked_wait_max_s:
        return None
    return max(drawn_s, asked_s * (1 + 0.2 * fraction))


@final
class RetryBudget:
    """How many retries there may be, against how many first attempts there were."""

    def __init__(self, *, share: float = 0.1, floor_per_s: float = 1.0, window_s: float = 10.0) -> None:
        self._share = share
        self._floor = floor_per_s * window_s
        self._window_s = window_s
        self._first: deque[float] = deque()
        self._retries: deque[float] = deque()

    def note_first_attempt(self, now_s: float) -> None:
        self._forget(now_s)
        self._first.append(now_s)

    def spend(self, now_s: float) -> bool:
        """Take one retry out of the budget; False when there is none, and nobody waits for one."""
        self._forget(now_s)
        if len(self._retries) + 1 > self._share * len(self._first) + self._floor:
            return False
        self._retries.append(now_s)
        return True

    def left(self, now_s: float) -> int:
        """How many retries could be taken now."""
        self._forget(now_s)
        return max(0, int(self._share * len(self._first) + self._floor) - len(self._retries))

    def _forget(self, now_s: float) -> None:
        for times in (self._first, self._retries):
            while times and times[0] <= now_s - self._window_s:
                times.popleft()
