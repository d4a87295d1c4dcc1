"""The usage of each tenant: its calls in flight, requests and tokens.

`LocalQuotaStore` counts for one process, `SharedQuotaStore` for all processes of a machine, and
`RedisQuotaStore` for all replicas. The arithmetic is in `rate_limiter.py`.
"""

import enum
from dataclasses import dataclass, field
from typing import Protocol, final

from togetherchat_server.domain.periods import Period
from togetherchat_server.tenants.budget import Spending
from togetherchat_server.tenants.rate_limiter import (
    consume,
    give_back,
    used_units,
    wait_for_s,
    wait_s,
)
from togetherchat_server.tenants.tenants_file import QuotaLimits


class QuotaMetric(enum.StrEnum):
    """What a limit counts, as error messages name it."""

    CALLS = "calls in flight"
    REQUESTS = "requests per minute"
    TOKENS = "tokens per minute"
    DAY_COST = "budget per day"
    MONTH_COST = "budget per month"


@dataclass(frozen=True, slots=True)
class QuotaRejection:
    """The exhausted limit. `retry_after_s` is None if the time is unknown.

    `left` is what a call may still use: tokens, or 1e-9 USD of a budget. None for calls and requests.
    """

    metric: QuotaMetric
    retry_after_s: float | None
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What one attempt may use at most, or has used."""

    tokens: int = 0
    """Input and output tokens: an estimate before the attempt."""
    nano_usd: int = 0
    """Its cost in 1e-9 USD: before the attempt, the most that it can be."""


NOTHING = Claim()


@dataclass(frozen=True, slots=True)
class Grant:
    """A claim that was reserved: in which period, and what is left of the budgets after it in 1e-9 USD."""

    period: Period
    day_left: int = 0
    month_left: int = 0
    """Each is 0 without such a budget."""


def granted(spending: Spending, limits: QuotaLimits) -> Grant:
    """Return the grant of a claim that `spending` includes."""
    return Grant(
        Period(day=spending.day, month=spending.month),
        spending.day_left(limits.day_budget) if limits.day_budget else 0,
        spending.month_left(limits.month_budget) if limits.month_budget else 0,
    )


@dataclass(slots=True)
class QuotaUsage:
    """The usage of one tenant. The moments are those of `rate_limiter`."""

    calls: int = 0
    requests_until_s: float = 0.0
    tokens_until_s: float = 0.0
    tokens_reserved: int = 0
    """The part of the tokens that attempts in flight may use."""
    spending: Spending = field(default_factory=Spending)


class QuotaStore(Protocol):
    """Counts the usage of tenants. `now_s` is of the one clock of all processes that share the store."""

    def enter(self, tenant: str, limits: QuotaLimits, now_s: float) -> QuotaRejection | None:
        """Count a call, unless a limit is exhausted. Each call that entered calls `leave` exactly once."""
        ...

    def leave(self, tenant: str) -> None: ...

    def reserve(
        self, tenant: str, claim: Claim, limits: QuotaLimits, now_s: float, period: Period
    ) -> QuotaRejection | Grant:
        """Reserve what an attempt may use, unless it does not fit. Each grant is settled exactly once."""
        ...

    def settle(
        self, tenant: str, claim: Claim, used: Claim, limits: QuotaLimits, now_s: float, period: Period
    ) -> None:
        """Replace a claim by what the attempt has used. `period` is that of the grant."""
        ...

    def usage(self, tenant: str, period: Period) -> QuotaUsage:
        """Return a copy of a tenant's usage."""
        ...

    def reset(self, tenant: str) -> None:
        """Forget the requests and tokens per minute that a tenant has used."""
        ...

    def load(self, day_costs: "Costs", month_costs: "Costs", period: Period) -> None:
        """Add what calls cost before the store was created. Only the first call has an effect."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether `load` was called, by any process that shares the store."""
        ...


Costs = dict[str, int]
"""The cost of each tenant's calls in 1e-9 USD."""


@final
class LocalQuotaStore:
    """The quota store of one process."""

    def __init__(self) -> None:
        self._usages: dict[str, QuotaUsage] = {}
        self._loaded = False

    @property
    def loaded(self) -> bool:
        return self._loaded

    def enter(self, tenant: str, limits: QuotaLimits, now_s: float) -> QuotaRejection | None:
        usage = self._usage(tenant)
        rejection = check_quota(usage, limits, now_s)
        if rejection is None:
            usage.calls += 1
            usage.requests_until_s = consume_request(usage.requests_until_s, limits, now_s)
        return rejection

    def leave(self, tenant: str) -> None:
        self._usages[tenant].calls -= 1

    def reserve(
        self, tenant: str, claim: Claim, limits: QuotaLimits, now_s: float, period: Period
    ) -> QuotaRejection | Grant:
        usage = self._usage(tenant)
        usage.spending.roll(period)
        rejection = check_claim(usage, claim, limits, now_s)
        if rejection is not None:
            return rejection
        usage.tokens_until_s = consume(usage.tokens_until_s, now_s, limits.tokens_per_minute, claim.tokens)
        usage.tokens_reserved += claim.tokens
        usage.spending.reserve(claim.nano_usd)
        return granted(usage.spending, limits)

    def settle(
        self, tenant: str, claim: Claim, used: Claim, limits: QuotaLimits, now_s: float, period: Period
    ) -> None:
        usage = self._usage(tenant)
        usage.tokens_until_s = settled_tokens(usage.tokens_until_s, claim, used, limits, now_s)
        usage.tokens_reserved -= claim.tokens
        usage.spending.settle(period, claim.nano_usd, used.nano_usd)

    def usage(self, tenant: str, period: Period) -> QuotaUsage:
        usage = self._usage(tenant)
        usage.spending.roll(period)
        return QuotaUsage(
            usage.calls,
            usage.requests_until_s,
            usage.tokens_until_s,
            usage.tokens_reserved,
            usage.spending.copy(),
        )

    def reset(self, tenant: str) -> None:
        usage = self._usage(tenant)
        usage.requests_until_s = usage.tokens_until_s = 0.0

    def load(self, day_costs: Costs, month_costs: Costs, period: Period) -> None:
        if self._loaded:
            return
        self._loaded = True
        for tenant in day_costs | month_costs:
            spending = self._usage(tenant).spending
            spending.roll(period)
            spending.add(period, day_costs.get(tenant, 0), month_costs.get(tenant, 0))

    def _usage(self, tenant: str) -> QuotaUsage:
        usage = self._usages.get(tenant)
        if usage is None:
            usage = self._usages[tenant] = QuotaUsage()
        return usage


def check_quota(usage: QuotaUsage, limits: QuotaLimits, now_s: float) -> QuotaRejection | None:
    """Return why a tenant may not begin one more call now; None if it may. The longest wait is named."""
    if 0 < limits.max_concurrent_calls <= usage.calls:
        return QuotaRejection(QuotaMetric.CALLS, None)
    requests_s = wait_s(usage.requests_until_s, now_s, limits.requests_per_minute)
    tokens_s = wait_s(usage.tokens_until_s, now_s, limits.tokens_per_minute)
    if not (requests_s or tokens_s):
        return None
    return longer_wait(requests_s, tokens_s)


def check_claim(usage: QuotaUsage, claim: Claim, limits: QuotaLimits, now_s: float) -> QuotaRejection | None:
    """Return why an attempt does not fit into its tenant's limits; None if it does.

    A claim of more tokens than a minute has does not wait for ever: it needs the whole minute.
    """
    spending = usage.spending
    if limits.month_budget and claim.nano_usd > spending.month_left(limits.month_budget):
        return QuotaRejection(QuotaMetric.MONTH_COST, None, max(0, spending.month_left(limits.month_budget)))
    if limits.day_budget and claim.nano_usd > spending.day_left(limits.day_budget):
        return QuotaRejection(QuotaMetric.DAY_COST, None, max(0, spending.day_left(limits.day_budget)))
    per_minute = limits.tokens_per_minute
    tokens_s = wait_for_s(usage.tokens_until_s, now_s, per_minute, min(claim.tokens, per_minute))
    if tokens_s:
        left = max(0, per_minute - used_units(usage.tokens_until_s, now_s, per_minute))
        return QuotaRejection(QuotaMetric.TOKENS, tokens_s, left)
    return None


def settled_tokens(until_s: float, claim: Claim, used: Claim, limits: QuotaLimits, now_s: float) -> float:
    """Return the usage of tokens after a claim was replaced by what was used."""
    if used.tokens >= claim.tokens:
        return consume(until_s, now_s, limits.tokens_per_minute, used.tokens - claim.tokens)
    return give_back(until_s, limits.tokens_per_minute, claim.tokens - used.tokens)


def longer_wait(requests_s: float, tokens_s: float) -> QuotaRejection:
    """Return the rejection with the longer of two waits."""
    if requests_s >= tokens_s:
        return QuotaRejection(QuotaMetric.REQUESTS, requests_s)
    return QuotaRejection(QuotaMetric.TOKENS, tokens_s, 0)


def consume_request(used_until_s: float, limits: QuotaLimits, now_s: float) -> float:
    """Return the usage of requests after one more."""
    return consume(used_until_s, now_s, limits.requests_per_minute, 1)
