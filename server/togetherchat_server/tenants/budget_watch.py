"""Watches how much of their budgets tenants have used: for metrics, a line in the log, and the caller."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.domain.periods import Period, period_of
from togetherchat_server.tenants.quota_errors import usd
from togetherchat_server.tenants.quota_store import Grant
from togetherchat_server.tenants.tenants_file import QuotaLimits

DAY: Final = "day"
MONTH: Final = "month"
TENANTS_MAX: Final = 200
"""Tenants with metrics of their own."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Standing:
    """What was left when the tenant last used its budget."""

    limits: QuotaLimits
    grant: Grant
    warned_in: Period | None = None


@final
class BudgetWatch:
    """The budgets of tenants as of their last attempts.

    `on_new_tenant(tenant, period)` is called once for each.
    """

    def __init__(self, *, wall_clock: Callable[[], float]) -> None:
        self.on_new_tenant: Callable[[str, str], object] = lambda _tenant, _period: None
        self._wall_clock = wall_clock
        self._standings: dict[str, _Standing] = {}

    def update(self, tenant: str, limits: QuotaLimits, grant: Grant) -> str:
        """Record what is left. Return it in USD if the soft limit is reached, else an empty text."""
        standing = self._standings.get(tenant)
        if standing is None:
            standing = self._standings[tenant] = _Standing(limits=limits, grant=grant)
            if len(self._standings) <= TENANTS_MAX:
                for budget, period in ((limits.day_budget, DAY), (limits.month_budget, MONTH)):
                    if budget:
                        self.on_new_tenant(tenant, period)
        standing.limits, standing.grant = limits, grant
        left = soft_left(limits, grant)
        if left is None:
            return ""
        if standing.warned_in != grant.period:
            standing.warned_in = grant.period
            _log.warning("tenant %s has %s USD left of its budget", tenant, usd(left))
        return usd(left)

    def used_ratio(self, tenant: str, period: str) -> float:
        """Return the part of a budget that is spent or reserved; 0 in a day or month without an attempt."""
        standing = self._standings[tenant]
        limits, grant, now = standing.limits, standing.grant, period_of(int(self._wall_clock() * 1e6))
        if period == DAY:
            budget, left, is_current = limits.day_budget, grant.day_left, grant.period.day == now.day
        else:
            budget, left, is_current = limits.month_budget, grant.month_left, grant.period.month == now.month
        return 1 - left / budget if budget and is_current else 0.0


def soft_left(limits: QuotaLimits, grant: Grant) -> int | None:
    """Return the least that is left of a budget beyond its soft limit, in 1e-9 USD; None before that."""
    lefts = [
        left
        for budget, left in ((limits.day_budget, grant.day_left), (limits.month_budget, grant.month_left))
        if budget and budget - left >= budget * limits.soft_budget_ratio
    ]
    return max(0, min(lefts)) if lefts else None
