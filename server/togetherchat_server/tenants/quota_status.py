"""What is used, reserved and left of the limits of tenants."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Bucket(enum.StrEnum):
    """What a limit counts, by the name of the limit in the tenants file."""

    CONCURRENT_CALLS = "max_concurrent_calls"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    COST_PER_DAY = "budget_usd_per_day"
    COST_PER_MONTH = "budget_usd_per_month"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaStatus:
    """One limit of a tenant. Amounts are calls, requests or tokens, or 1e-9 USD for a budget."""

    tenant: str
    bucket: Bucket
    limit: int
    used: int
    """What finished calls have used; less of it by the second for limits per minute."""
    reserved: int
    """What calls in flight may use at most."""
    soft_limit: int | None = None
    """The use from which the service warns; only for a budget."""
    reset_us: int | None = None
    """When the whole limit is available again without further use, since 1970; None if it is not known."""

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used - self.reserved)


class QuotaReader(Protocol):
    """Reads the quotas of tenants, and resets them."""

    async def statuses(self, tenants: Sequence[str]) -> Sequence[QuotaStatus]:
        """Return the limits of these tenants, or of all that are known; ordered by tenant and bucket."""
        ...

    async def reset(self, tenant: str) -> None:
        """Forget the requests and tokens per minute that the tenant has used."""
        ...
