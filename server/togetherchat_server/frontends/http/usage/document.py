"""Reports of usage and quotas as JSON documents and as CSV. Pure.

A row has the dimensions of the report by name, the counters by their names in the contract, the cost
in US dollars beside that in 1e-9 USD, and the percentiles in milliseconds. Every row has every member:
what is not known is null.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from togetherchat.v1 import usage_service_pb2 as service
from togetherchat_server.calls.usage_messages import DIMENSIONS, METRICS
from togetherchat_server.tenants.quota_status import Bucket
from togetherchat_server.usage.report import Dimension

Json = dict[str, object]
DimensionValue: TypeAlias = "service.UsageDimension.ValueType"

METRIC_NAMES: Final[Mapping[int, Bucket]] = {metric: bucket for bucket, metric in METRICS.items()}
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
PERCENTILES: Final = ("p50", "p95")
_DURATIONS: Final = ("duration", "first_token")
_NANO_USD: Final = 10**9
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet runs as a formula (OWASP, CSV injection)."""


def usage_json(response: service.QueryUsageResponse, group_by: Sequence[DimensionValue]) -> bytes:
    """Return one page of a report. `group_by` has the dimensions of its request."""
    dimensions = [DIMENSIONS[value] for value in group_by]
    return orjson.dumps(
        {
            "start_time": rfc3339(response.start_time),
            "end_time": rfc3339(response.end_time),
            "group_by": dimensions,
            "rows": [_members(row, dimensions) | _sums(row) for row in response.rows],
            "total": _sums(response.total),
            "next_page": response.next_page_token or None,
        }
    )


def usage_csv(response: service.QueryUsageResponse, group_by: Sequence[DimensionValue]) -> bytes:
    """Return the rows of one page as CSV (RFC 4180), with a line of headings."""
    dimensions = [DIMENSIONS[value] for value in group_by]
    text = io.StringIO()
    writer = csv.writer(text)
    headings = [f"{name}_{percentile}_ms" for name in _DURATIONS for percentile in PERCENTILES]
    writer.writerow([*dimensions, *COUNTERS, "cost_usd", *headings])
    for row in response.rows:
        cells = [_text_cell(cell) for cell in _members(row, dimensions).values()]
        cells += [getattr(row, name) for name in COUNTERS]
        writer.writerow([*cells, cost_usd(row.cost_nano_usd), *_percentile_cells(row)])
    return text.getvalue().encode("utf-8")


def quotas_json(response: service.ListQuotasResponse) -> bytes:
    """Return the limits of tenants. Amounts of budgets are 1e-9 USD."""
    return orjson.dumps({"quotas": [_quota(quota) for quota in response.quotas]})


def cost_usd(nano_usd: int) -> str:
    """Return an amount in US dollars as a decimal number with nine places: exact, unlike a float."""
    dollars, rest = divmod(abs(nano_usd), _NANO_USD)
    return f"{'-' if nano_usd < 0 else ''}{dollars}.{rest:09d}"


def rfc3339(moment: Timestamp) -> str:
    """Return a moment in UTC, with as many places as it has, up to microseconds."""
    text = _datetime(moment).isoformat().removesuffix("+00:00")
    return f"{text.rstrip('0') if '.' in text else text}Z"


def _members(row: service.UsageRow, dimensions: Sequence[Dimension]) -> Json:
    return {dimension.value: _member(row, dimension) for dimension in dimensions}


def _member(row: service.UsageRow, dimension: Dimension) -> str:
    match dimension:
        case Dimension.DAY:
            return _datetime(row.start_time).date().isoformat()
        case Dimension.HOUR:
            return rfc3339(row.start_time)
        case (
            Dimension.TENANT | Dimension.MODEL | Dimension.KEY | Dimension.USER | Dimension.REASON
        ):  # the fields have the dimensions' names
            return str(getattr(row, dimension.value))


def _sums(row: service.UsageRow) -> Json:
    sums: Json = {name: getattr(row, name) for name in COUNTERS}
    sums["cost_usd"] = cost_usd(row.cost_nano_usd)
    cells = iter(_percentile_cells(row))
    for name in _DURATIONS:
        sums[f"{name}_ms"] = {percentile: next(cells) for percentile in PERCENTILES}
    return sums


def _percentile_cells(row: service.UsageRow) -> list[float | None]:
    """Return the percentiles in milliseconds; None where the row has none."""
    fields = (
        (row.HasField("duration_p50"), row.duration_p50),
        (row.HasField("duration_p95"), row.duration_p95),
        (row.HasField("first_token_p50"), row.first_token_p50),
        (row.HasField("first_token_p95"), row.first_token_p95),
    )
    return [_milliseconds(duration) if is_set else None for is_set, duration in fields]


def _milliseconds(duration: Duration) -> float:
    return duration.ToMicroseconds() / 1000


def _text_cell(cell: object) -> object:
    is_formula = isinstance(cell, str) and cell.startswith(_FORMULA_STARTS)
    return f"'{cell}" if is_formula else cell


def _quota(quota: service.Quota) -> Json:
    return {
        "tenant": quota.tenant,
        "metric": METRIC_NAMES[quota.metric],
        "limit": quota.limit,
        "used": quota.used,
        "reserved": quota.reserved,
        "left": quota.left,
        "soft_limit": quota.soft_limit if quota.HasField("soft_limit") else None,
        "reset_time": rfc3339(quota.reset_time) if quota.HasField("reset_time") else None,
    }


def _datetime(moment: Timestamp) -> datetime:
    return moment.ToDatetime(tzinfo=UTC)
