"""The usage of each tenant: its calls in flight, requests and tokens.

`LocalQuotaStore` counts for one process, `SharedQuotaStore` for all processes of a machine, and
`RedisQuotaStore` for all replicas. The arithmetic is in `rate_limiter.py`.
"""

import enum
from dataclasses import dataclass
from typing import Protocol, final

from togetherchat_server.tenants.rate_limiter import consume, wait_s
from togetherchat_server.tenants.tenants_file import QuotaLimits


class QuotaMetric(enum.StrEnum):
    """What a limit counts, as error messages name it."""

    CALLS = "calls in flight"
    REQUESTS = "requests per minute"
    TOKENS = "tokens per minute"


@dataclass(frozen=True, slots=True)
class QuotaRejection:
    """The exhausted limit. `retry_after_s` is None if the time is unknown."""

    metric: QuotaMetric
    retry_after_s: float | None


@dataclass(slots=True)
class QuotaUsage:
    """The usage of one tenant. The moments are those of `rate_limiter`."""

    calls: int = 0
    requests_until_s: float = 0.0
    tokens_until_s: float = 0.0


class QuotaStore(Protocol):
    """Counts the usage of tenants. `now_s` is of the one clock of all processes that share the store."""

    def enter(self, tenant: str, limits: QuotaLimits, now_s: float) -> QuotaRejection | None:
        """Count a call, unless a limit is exhausted. Each call that entered calls `leave` exactly once."""
        ...

    def leave(self, tenant: str) -> None: ...

    def spend(self, tenant: str, tokens: int, limits: QuotaLimits, now_s: float) -> None:
        """Count the tokens of a finished call."""
        ...


@final
class LocalQuotaStore:
    """The quota store of one process."""

    def __init__(self) -> None:
        self._usages: dict[str, QuotaUsage] = {}

    def enter(self, tenant: str, limits: QuotaLimits, now_s: float) -> QuotaRejection | None:
        usage = self._usages.setdefault(tenant, QuotaUsage())
        rejection = check_quota(usage, limits, now_s)
        if rejection is None:
            usage.calls += 1
            usage.requests_until_s = consume_request(usage.requests_until_s, limits, now_s)
        return rejection

    def leave(self, tenant: str) -> None:
        self._usages[tenant].calls -= 1

    def spend(self, tenant: str, tokens: int, limits: QuotaLimits, now_s: float) -> None:
        usage = self._usages.setdefault(tenant, QuotaUsage())
        usage.tokens_until_s = consume(usage.tokens_until_s, now_s, limits.tokens_per_minute, tokens)


def check_quota(usage: QuotaUsage, limits: QuotaLimits, now_s: float) -> QuotaRejection | None:
    """Return why a tenant may not begin one more call now; None if it may. The longest wait is named."""
    if 0 < limits.max_concurrent_calls <= usage.calls:
        return QuotaRejection(QuotaMetric.CALLS, None)
    requests_s = wait_s(usage.requests_until_s, now_s, limits.requests_per_minute)
    tokens_s = wait_s(usage.tokens_until_s, now_s, limits.tokens_per_minute)
    if not (requests_s or tokens_s):
        return None
    return longer_wait(requests_s, tokens_s)


def longer_wait(requests_s: float, tokens_s: float) -> QuotaRejection:
    """Return the rejection with the longer of two waits."""
    if requests_s >= tokens_s:
        return QuotaRejection(QuotaMetric.REQUESTS, requests_s)
    return QuotaRejection(QuotaMetric.TOKENS, tokens_s)


def consume_request(used_until_s: float, limits: QuotaLimits, now_s: float) -> float:
    """Return the usage of requests after one more."""
    return consume(used_until_s, now_s, limits.requests_per_minute, 1)
