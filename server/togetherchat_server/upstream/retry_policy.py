"""Decides whether a failed attempt is retried, and after which delay. Pure: no clock, no chance, no waiting.

The theory. Retries happen in one layer, this one; errors instruct callers not to retry where a retry
cannot help. An attempt is retried only while no part of a completion was passed on; the retry loop ensures
that. The table of reasons has the class of each failure:

- not sent: nothing reached the provider (connection refused, no such name, connect timeout). A retry
  is free and safe;
- declined: the provider reports that it did not do the work (rate limit, overload, a bad gateway). A
  retry is safe;
- may be billed: the work may have been done and billed (500, a broken connection, no response in
  time). Retried only if the operator allows it (`--billable-retries`).

Every other failure is final: it would repeat, or the caller must change the request. Delays are drawn
between zero and a bound that doubles ("full jitter"), so that callers that failed together do not
retry together. A delay that the provider requests is a minimum. If it does not fit into the time left,
or exceeds `provider_delay_max_s`, the call fails now and reports the delay.

A budget bounds the sum: a tenth of the first attempts of the last ten seconds, and one per second
besides. When everything fails, retries stay a tenth of the load instead of doubling it.
"""

from collections import deque
from dataclasses import dataclass
from typing import final

from togetherchat_server.domain.reasons import AttemptClass, ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Bounds on retries. Durations in seconds."""

    retries_max: int = 2
    billable_retries_max: int = 0
    first_delay_s: float = 0.25
    delay_max_s: float = 8.0
    provider_delay_max_s: float = 30.0
    """The longest delay requested by the provider that is waited for."""


def decide(
    error: ServiceError, *, attempt: int, seconds_left: float, fraction: float, policy: RetryPolicy
) -> float | None:
    """Return the delay before the next attempt, in seconds; None to fail with the error.

    Args:
        error: how the last attempt failed.
        attempt: its number, 1 for the first.
        seconds_left: until the call's deadline.
        fraction: a random number from 0 to 1.
        policy: the bounds.
    """
    attempt_class = error.attempt_class
    if attempt_class is AttemptClass.FINAL:
        return None
    billable = attempt_class is AttemptClass.MAY_BE_BILLED
    if attempt > (policy.billable_retries_max if billable else policy.retries_max):
        return None
    delay_s = _delay_s(error.retry_after_s, attempt, fraction, policy)
    return None if delay_s is None or delay_s >= seconds_left else delay_s


def _delay_s(retry_after_s: float | None, attempt: int, fraction: float, policy: RetryPolicy) -> float | None:
    jittered_s = fraction * min(policy.delay_max_s, policy.first_delay_s * 2 ** (attempt - 1))
    if retry_after_s is None:
        return jittered_s
    if retry_after_s > policy.provider_delay_max_s:
        return None
    return max(jittered_s, retry_after_s * (1 + 0.2 * fraction))


@final
class RetryBudget:
    """Bounds retries to a share of the recent first attempts."""

    def __init__(self, *, share: float = 0.1, floor_per_s: float = 1.0, window_s: float = 10.0) -> None:
        self._share = share
        self._floor = floor_per_s * window_s
        self._window_s = window_s
        self._first_attempts: deque[float] = deque()
        self._retries: deque[float] = deque()

    def record_first_attempt(self, now_s: float) -> None:
        self._forget_old(now_s)
        self._first_attempts.append(now_s)

    def spend(self, now_s: float) -> bool:
        """Spend one retry. Returns False if the budget is used up; never waits."""
        self._forget_old(now_s)
        if len(self._retries) + 1 > self._share * len(self._first_attempts) + self._floor:
            return False
        self._retries.append(now_s)
        return True

    def left(self, now_s: float) -> int:
        """How many retries could be spent now."""
        self._forget_old(now_s)
        allowed = int(self._share * len(self._first_attempts) + self._floor)
        return max(0, allowed - len(self._retries))

    def _forget_old(self, now_s: float) -> None:
        for times in (self._first_attempts, self._retries):
            while times and times[0] <= now_s - self._window_s:
                times.popleft()
