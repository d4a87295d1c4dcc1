"""Formats reports of usage and quotas as rows for a terminal, a pipe or a CSV file. Prints nothing."""

import csv
import datetime as dt
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.duration_pb2 import Duration

from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat_client.cli.model_table import GAP, UNKNOWN, Table

BARS: Final = "▁▂▃▄▅▆▇█"
CELLS_MAX: Final = 31
"""Characters of a sparkline: a month of days. Days of longer periods are added up."""
PER_DAY: Final = "per day"
TOTAL: Final = "total"
COUNTERS: Final = (
    "calls",
    "failed_calls",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "estimated_cost_nano_usd",
    "estimated_calls",
    "unpriced_calls",
)
COST_METRICS: Final = frozenset({usage.QUOTA_METRIC_COST_PER_DAY, usage.QUOTA_METRIC_COST_PER_MONTH})
NANO_USD: Final = 10**9
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _UsageColumn:
    heading: str
    cell: Callable[[usage.UsageRow], str]


def usage_table(
    report: usage.QueryUsageResponse, by: Sequence[str], *, width: int, sparklines: Mapping[Group, str]
) -> Table:
    """Return the table of a report, its total last, with the columns that fit into `width`."""
    columns = list(_COLUMNS)
    while True:
        table = _table(report, by, columns, sparklines)
        if _width(table) <= width or len(columns) == len(_COLUMNS) - len(_DISPENSABLE):
            return table
        columns.remove(next(column for column in _DISPENSABLE if column in columns))


def plain_rows(report: usage.QueryUsageResponse, by: Sequence[str]) -> list[list[str]]:
    """Return the dimensions, the counters and the cost in USD of each row, unrounded."""
    return [
        [*group_of(row, by), *(str(getattr(row, name)) for name in COUNTERS), cost_usd(row.cost_nano_usd)]
        for row in report.rows
    ]


def csv_text(report: usage.QueryUsageResponse, by: Sequence[str]) -> str:
    """Return the rows as CSV. A name that a spreadsheet would run as a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*by, *COUNTERS, "cost_usd"])
    for row in plain_rows(report, by):
        names = [f"'{name}" if name.startswith(_FORMULA_STARTS) else name for name in row[: len(by)]]
        writer.writerow([*names, *row[len(by) :]])
    return text.getvalue()


def group_of(row: usage.UsageRow, by: Sequence[str]) -> Group:
    """Return the names that a row stands for."""
    return tuple(_name(row, dimension) for dimension in by)


def sparklines_of(
    report: usage.QueryUsageResponse, by: Sequence[str], days: Sequence[usage.UsageRow]
) -> dict[Group, str]:
    """Return the cost per day of each group as bars, the largest of its own days as the highest.

    `days` has the rows of the same report by day.
    """
    first = report.start_time.ToDatetime(tzinfo=dt.UTC).date()
    count = (report.end_time.ToDatetime(tzinfo=dt.UTC) - dt.timedelta(microseconds=1)).date() - first
    per_cell = -(-(count.days + 1) // CELLS_MAX)
    cells = -(-(count.days + 1) // per_cell)
    costs: dict[Group, list[int]] = defaultdict(lambda: [0] * cells)
    for row in days:
        day = (row.start_time.ToDatetime(tzinfo=dt.UTC).date() - first).days
        if 0 <= day // per_cell < cells:
            costs[group_of(row, by)][day // per_cell] += row.cost_nano_usd
    return {group: bars(values) for group, values in costs.items()}


def bars(values: Sequence[int]) -> str:
    """Return a character for each value: a blank for 0, and a bar of one of eight heights."""
    highest = max(values, default=0)
    return "".join(
        " " if value <= 0 else BARS[min(len(BARS) - 1, value * len(BARS) // (highest + 1))]
        for value in values
    )


def quota_rows(quotas: Sequence[usage.Quota], *, exact: bool) -> list[tuple[str, ...]]:
    """Return tenant, metric, limit, used, reserved, left and reset time; costs in USD unless `exact`."""
    rows: list[tuple[str, ...]] = []
    for quota in quotas:
        amounts = (quota.limit, quota.used, quota.reserved, quota.left)
        in_usd = quota.metric in COST_METRICS and not exact
        cells = (f"${amount / NANO_USD:,.2f}" if in_usd else str(amount) for amount in amounts)
        reset = quota.reset_time.ToJsonString() if quota.HasField("reset_time") else UNKNOWN
        rows.append((quota.tenant, metric_name(quota.metric), *cells, reset))
    return rows


def metric_name(metric: int) -> str:
    """Return the word for a metric; the number of one that this client does not know."""
    found = usage.QuotaMetric.DESCRIPTOR.values_by_number.get(metric)
    return str(metric) if found is None else found.name.removeprefix("QUOTA_METRIC_").lower()


def cost_usd(nano_usd: int) -> str:
    """Return an amount in USD, exactly."""
    return f"{nano_usd // NANO_USD}.{nano_usd % NANO_USD:09d}"


def _table(
    report: usage.QueryUsageResponse,
    by: Sequence[str],
    columns: Sequence[_UsageColumn],
    sparklines: Mapping[Group, str],
) -> Table:
    extra = (PER_DAY,) if sparklines else ()
    headings = (*by, *(column.heading for column in columns), *extra)
    rows = [
        (
            *(name or UNKNOWN for name in group_of(row, by)),
            *(column.cell(row) for column in columns),
            *((sparklines.get(group_of(row, by), ""),) if sparklines else ()),
        )
        for row in report.rows
    ]
    if by:
        names = (TOTAL, *("" for _ in by[1:]))
        rows.append((*names, *(column.cell(report.total) for column in columns), *("" for _ in extra)))
    numbers = frozenset(column.heading for column in columns)
    return Table(headings=headings, rows=rows, numbers=numbers)


def _name(row: usage.UsageRow, dimension: str) -> str:
    match dimension:
        case "day":
            return f"{row.start_time.ToDatetime():%Y-%m-%d}"
        case "hour":
            return f"{row.start_time.ToDatetime():%Y-%m-%dT%H:00Z}"
        case _:
            return str(getattr(row, dimension))


def _duration(is_set: bool, duration: Duration) -> str:  # noqa: FBT001  the field's presence
    return f"{duration.ToMicroseconds() / 1e6:.2f} s" if is_set else UNKNOWN


_P50 = _UsageColumn(heading="p50", cell=lambda row: _duration(row.HasField("duration_p50"), row.duration_p50))
_P95 = _UsageColumn(heading="p95", cell=lambda row: _duration(row.HasField("duration_p95"), row.duration_p95))
_INPUT = _UsageColumn(heading="input", cell=lambda row: f"{row.input_tokens:,}")
_OUTPUT = _UsageColumn(heading="output", cell=lambda row: f"{row.output_tokens:,}")
_FAILED = _UsageColumn(heading="failed", cell=lambda row: f"{row.failed_calls:,}")
_COLUMNS = (
    _UsageColumn(heading="calls", cell=lambda row: f"{row.calls:,}"),
    _FAILED,
    _INPUT,
    _OUTPUT,
    _UsageColumn(heading="cost", cell=lambda row: f"${row.cost_nano_usd / NANO_USD:,.4f}"),
    _P50,
    _P95,
)
_DISPENSABLE = (_P50, _P95, _FAILED, _INPUT, _OUTPUT)
"""The columns that a narrow terminal does without, in this order."""


def _width(table: Table) -> int:
    columns = zip(table.headings, *table.rows, strict=True)
    return sum(max(map(len, column)) + GAP for column in columns) - GAP
