"""The errors of exhausted quotas: which limit, how much is left, and when to come back."""

from typing import Final

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.quota_store import Claim, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.tenants_file import NANO_USD, QuotaLimits

_COSTS: Final = {QuotaMetric.DAY_COST, QuotaMetric.MONTH_COST}
_PERIODS: Final = {QuotaMetric.DAY_COST: "day", QuotaMetric.MONTH_COST: "month"}


def quota_error(
    tenant: str, rejection: QuotaRejection, limits: QuotaLimits, claim: Claim | None = None
) -> ServiceError:
    """Return the error that names the exhausted limit. `claim` is what the attempt would have reserved.

    A client is not to repeat a call that exceeds a budget: that has room again when the day or the month
    ends, or when the operator raises it. Only a rejection that passes, because a store is unavailable, has a
    time.
    """
    metric = rejection.metric
    if metric in _COSTS:
        budget = limits.day_budget if metric is QuotaMetric.DAY_COST else limits.month_budget
        needed = "" if claim is None else f"; this call may cost up to {usd(claim.nano_usd)} USD"
        return ServiceError(
            Reason.CALLER_QUOTA,
            f"tenant {tenant} has {usd(rejection.left or 0)} USD left of its {usd(budget)} USD "
            f"budget per {_PERIODS[metric]}{needed}",
            retryable=rejection.retry_after_s is not None,
            retry_after_s=rejection.retry_after_s,
        )
    number = {
        QuotaMetric.CALLS: limits.max_concurrent_calls,
        QuotaMetric.REQUESTS: limits.requests_per_minute,
        QuotaMetric.TOKENS: limits.tokens_per_minute,
    }[metric]
    if claim is not None and rejection.left is not None:
        return ServiceError(
            Reason.CALLER_QUOTA,
            f"tenant {tenant} has {rejection.left} left of its {number} {metric}, and this call may use "
            f"{claim.tokens}",
            retry_after_s=rejection.retry_after_s,
        )
    return ServiceError(
        Reason.CALLER_QUOTA,
        f"tenant {tenant} has used up its {number} {metric}",
        retry_after_s=rejection.retry_after_s,
    )


def usd(nano_usd: int) -> str:
    """Return an amount of 1e-9 USD in USD, exactly, with at least two decimals."""
    whole, rest = divmod(nano_usd, NANO_USD)
    decimals = f"{rest:09d}".rstrip("0")
    return f"{whole}.{decimals:0<2}"
