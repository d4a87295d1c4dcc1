"""What each tenant has in use: calls in flight, and its accounts of requests and tokens.

A tally is asked and told; it decides by `rates` and the limits that it is handed. This one is of one
process. `shared_tally` is of all processes of a machine.
"""

import enum
from dataclasses import dataclass
from typing import Protocol, final

from togetherchat_server.tenants.policy import TenantLimits
from togetherchat_server.tenants.rate_limiter import consume, wait_s


class QuotaMetric(enum.StrEnum):
    """The limit of a tenant that a call ran into, in words."""

    CALLS = "calls in flight"
    REQUESTS = "requests per minute"
    TOKENS = "tokens per minute"


@dataclass(frozen=True, slots=True)
class QuotaRejection:
    """Why a call is not let in, and in how many seconds it may be; None: nobody knows."""

    metric: QuotaMetric
    retry_after_s: float | None


@dataclass(slots=True)
class QuotaUsage:
    """One tenant. The moments are of `rates`."""

    calls: int = 0
    requests_until_s: float = 0.0
    tokens_until_s: float = 0.0


class QuotaStore(Protocol):
    """Calls that entered must leave, once. `now_s` is of one clock for all who share the tally."""

    def enter(self, tenant: str, limits: TenantLimits, now_s: float) -> QuotaRejection | None: ...

    def leave(self, tenant: str) -> None: ...

    def spend(self, tenant: str, tokens: int, limits: TenantLimits, now_s: float) -> None: ...


@final
class LocalQuotaStore:
    """The tally of one process."""

    def __init__(self) -> None:
        self._accounts: dict[str, QuotaUsage] = {}

    def enter(self, tenant: str, limits: TenantLimits, now_s: float) -> QuotaRejection | None:
        account = self._accounts.setdefault(tenant, QuotaUsage())
        rejection = check_quota(account, limits, now_s)
        if rejection is None:
            account.calls += 1
            account.requests_until_s = consume_request(account.requests_until_s, limits, now_s)
        return rejection

    def leave(self, tenant: str) -> None:
        self._accounts[tenant].calls -= 1

    def spend(self, tenant: str, tokens: int, limits: TenantLimits, now_s: float) -> None:
        account = self._accounts.setdefault(tenant, QuotaUsage())
        account.tokens_until_s = consume(account.tokens_until_s, now_s, limits.tokens_per_minute, tokens)


def check_quota(account: QuotaUsage, limits: TenantLimits, now_s: float) -> QuotaRejection | None:
    """Why one more call of this tenant is not to be let in now. The longest wait rules."""
    if 0 < limits.max_concurrent_calls <= account.calls:
        return QuotaRejection(QuotaMetric.CALLS, None)
    requests_s = wait_s(account.requests_until_s, now_s, limits.requests_per_minute)
    tokens_s = wait_s(account.tokens_until_s, now_s, limits.tokens_per_minute)
    if not (requests_s or tokens_s):
        return None
    return longer_wait(requests_s, tokens_s)


def longer_wait(requests_s: float, tokens_s: float) -> QuotaRejection:
    """Of two waits the longer."""
    if requests_s >= tokens_s:
        return QuotaRejection(QuotaMetric.REQUESTS, requests_s)
    return QuotaRejection(QuotaMetric.TOKENS, tokens_s)


def consume_request(until_s: float, limits: TenantLimits, now_s: float) -> float:
    """The account of requests with one more on it."""
    return consume(until_s, now_s, limits.requests_per_minute, 1)
