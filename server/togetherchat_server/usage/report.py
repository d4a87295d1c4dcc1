"""Reports of usage: what can be asked of the ledger, and the form of the result.

The interface between the frontends and the ledger. Times are microseconds since 1970, UTC; days and
hours are those of UTC; costs are 1e-9 USD.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

ROWS_MAX: Final = 10_000
"""Rows of one page of a report."""


class Dimension(enum.StrEnum):
    """What usage is summed by."""

    TENANT = "tenant"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"
    KEY = "key"
    USER = "user"
    REASON = "reason"


FILTERS: Final = (Dimension.TENANT, Dimension.MODEL, Dimension.KEY, Dimension.USER, Dimension.REASON)
"""The dimensions that a query may be limited by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A period, what to sum by, and filters. `filters` maps a dimension of FILTERS to the allowed values."""

    start_us: int
    """Inclusive."""
    end_us: int
    """Exclusive."""
    group_by: tuple[Dimension, ...] = ()
    filters: Mapping[Dimension, tuple[str, ...]]
    offset: int = 0
    limit: int = ROWS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSums:
    """The sums of some calls."""

    calls: int = 0
    failed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    estimated_cost_nano_usd: int = 0
    estimated_calls: int = 0
    unpriced_calls: int = 0
    duration_p50_us: int | None = None
    """Percentiles are by nearest rank; None where only daily sums are kept."""
    duration_p95_us: int | None = None
    first_token_p50_us: int | None = None
    first_token_p95_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageGroup:
    """The sums of one combination of the query's dimensions."""

    values: tuple[str | int, ...]
    """One for each of `UsageQuery.group_by`: a text, or the start of a day or hour in microseconds."""
    sums: UsageSums


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """One page of a report: ordered by day and hour if it has them, then by falling cost, then by values."""

    groups: Sequence[UsageGroup]
    total: UsageSums
    """Over the whole period, whatever the page."""
    more: bool
    """Whether there are groups after this page."""


class UsageReader(Protocol):
    """Reads the ledger. Rows of the last second may be missing.

    Raises:
        ServiceError: USAGE_UNAVAILABLE if the database does not answer in time.
    """

    async def query(self, query: UsageQuery) -> UsageReport: ...

    async def cost_by_tenant(self, start_us: int, end_us: int) -> Mapping[str, int]:
        """Return the cost of each tenant's calls in a period."""
        ...
