"""Reports the quotas of tenants: what is used, reserved and left of each limit, and resets them."""

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

from togetherchat_server.domain.periods import Period, period_of
from togetherchat_server.tenants.quota_status import Bucket, QuotaStatus
from togetherchat_server.tenants.quota_store import QuotaStore, QuotaUsage
from togetherchat_server.tenants.rate_limiter import used_units
from togetherchat_server.tenants.tenants_file import QuotaLimits, TenantsFile

_US_PER_S: Final = 1_000_000


class ReplicaUsage(Protocol):
    """The usage of tenants over all replicas."""

    async def usage(self, tenant: str, period: Period, now_s: float) -> QuotaUsage | None:
        """Return it with moments of the clock that shows `now_s`; None if the store is unavailable."""
        ...

    async def reset(self, tenant: str) -> None: ...


@final
class QuotaReport:
    """Implements `QuotaReader`. With replicas, the numbers are those of all of them."""

    def __init__(
        self,
        tenants: TenantsFile,
        store: QuotaStore,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        replicas: ReplicaUsage | None = None,
    ) -> None:
        self._tenants = tenants
        self._store = store
        self._clock = clock
        self._wall_clock = wall_clock
        self._replicas = replicas

    async def statuses(self, tenants: Sequence[str]) -> Sequence[QuotaStatus]:
        """Return the limits of these tenants, or of all in the tenants file; ordered by tenant and limit."""
        table = self._tenants.current()
        names = sorted(set(tenants) or table.tenants)
        return [status for name in names for status in await self._of(name, table.limits_of(name))]

    async def reset(self, tenant: str) -> None:
        """Forget the requests and tokens per minute that the tenant has used."""
        self._store.reset(tenant)
        if self._replicas is not None:
            await self._replicas.reset(tenant)

    async def _of(self, tenant: str, limits: QuotaLimits) -> list[QuotaStatus]:
        now_s, now_us = self._clock(), int(self._wall_clock() * _US_PER_S)
        period = period_of(now_us)
        usage = None
        if self._replicas is not None:
            usage = await self._replicas.usage(tenant, period, now_s)
        if usage is None:
            usage = self._store.usage(tenant, period)
        return quota_statuses(tenant, limits, usage, period, now_s=now_s, now_us=now_us)


def quota_statuses(
    tenant: str, limits: QuotaLimits, usage: QuotaUsage, period: Period, *, now_s: float, now_us: int
) -> list[QuotaStatus]:
    """Return the status of each limit that a tenant has."""

    def rate(bucket: Bucket, limit: int, until_s: float, reserved: int) -> QuotaStatus:
        used = used_units(until_s, now_s, limit)
        reserved = min(reserved, used)
        left_us = math.ceil(max(0.0, until_s - now_s) * _US_PER_S)
        return QuotaStatus(
            tenant=tenant,
            bucket=bucket,
            limit=limit,
            used=used - reserved,
            reserved=reserved,
            reset_us=now_us + left_us,
        )

    def budget(bucket: Bucket, limit: int, committed: int, reserved: int, reset_us: int) -> QuotaStatus:
        return QuotaStatus(
            tenant=tenant,
            bucket=bucket,
            limit=limit,
            used=committed,
            reserved=reserved,
            soft_limit=int(limit * limits.soft_budget_ratio),
            reset_us=reset_us,
        )

    statuses: list[QuotaStatus] = []
    if limits.max_concurrent_calls:
        statuses.append(
            QuotaStatus(
                tenant=tenant,
                bucket=Bucket.CONCURRENT_CALLS,
                limit=limits.max_concurrent_calls,
                used=0,
                reserved=usage.calls,
            )
        )
    if limits.requests_per_minute:
        statuses.append(
            rate(Bucket.REQUESTS_PER_MINUTE, limits.requests_per_minute, usage.requests_until_s, 0)
        )
    if limits.tokens_per_minute:
        statuses.append(
            rate(
                Bucket.TOKENS_PER_MINUTE,
                limits.tokens_per_minute,
                usage.tokens_until_s,
                usage.tokens_reserved,
            )
        )
    spending = usage.spending
    if limits.day_budget:
        statuses.append(
            budget(
                Bucket.COST_PER_DAY,
                limits.day_budget,
                spending.day_committed,
                spending.day_reserved,
                period.day_end_us,
            )
        )
    if limits.month_budget:
        statuses.append(
            budget(
                Bucket.COST_PER_MONTH,
                limits.month_budget,
                spending.month_committed,
                spending.month_reserved,
                period.month_end_us,
            )
        )
    return statuses
