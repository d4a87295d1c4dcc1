"""What each tenant has in use: calls in flight, and its accounts of requests and tokens.

A tally is asked and told; it decides by `rates` and the limits that it is handed. This one is of one
process. `shared_tally` is of all processes of a machine.
"""

import enum
from dataclasses import dataclass
from typing import Protocol, final

from togetherchat_server.tenants.policy import TenantLimits
from togetherchat_server.tenants.rate_limiter import used, wait_s


class QuotaLimit(enum.StrEnum):
    """The limit of a tenant that a call ran into, in words."""

    CALLS = "calls in flight"
    REQUESTS = "requests per minute"
    TOKENS = "tokens per minute"


@dataclass(frozen=True, slots=True)
class QuotaRejection:
    """Why a call is not let in, and in how many seconds it may be; None: nobody knows."""

    limit: QuotaLimit
    again_s: float | None


@dataclass(slots=True)
class Account:
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
        self._accounts: dict[str, Account] = {}

    def enter(self, tenant: str, limits: TenantLimits, now_s: float) -> QuotaRejection | None:
        account = self._accounts.setdefault(tenant, Account())
        refusal = rejection_of(account, limits, now_s)
        if refusal is None:
            account.calls += 1
            account.requests_until_s = after_request(account.requests_until_s, limits, now_s)
        return refusal

    def leave(self, tenant: str) -> None:
        self._accounts[tenant].calls -= 1

    def spend(self, tenant: str, tokens: int, limits: TenantLimits, now_s: float) -> None:
        account = self._accounts.setdefault(tenant, Account())
        account.tokens_until_s = used(account.tokens_until_s, now_s, limits.tokens_per_minute, tokens)


def rejection_of(account: Account, limits: TenantLimits, now_s: float) -> QuotaRejection | None:
    """Why one more call of this tenant is not to be let in now. The longest wait rules."""
    if 0 < limits.max_concurrent_calls <= account.calls:
        return QuotaRejection(QuotaLimit.CALLS, None)
    requests_s = wait_s(account.requests_until_s, now_s, limits.requests_per_minute)
    tokens_s = wait_s(account.tokens_until_s, now_s, limits.tokens_per_minute)
    if not (requests_s or tokens_s):
        return None
    return longest(requests_s, tokens_s)


def longest(requests_s: float, tokens_s: float) -> QuotaRejection:
    """Of two waits the longer."""
    if requests_s >= tokens_s:
        return QuotaRejection(QuotaLimit.REQUESTS, requests_s)
    return QuotaRejection(QuotaLimit.TOKENS, tokens_s)


def after_request(until_s: float, limits: TenantLimits, now_s: float) -> float:
    """The account of requests with one more on it."""
    return used(until_s, now_s, limits.requests_per_minute, 1)
