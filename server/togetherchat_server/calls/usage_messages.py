"""Reports of usage and quotas as messages of the contract. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from togetherchat.v1 import usage_service_pb2 as service
from togetherchat_server.tenants.quota_status import Bucket, QuotaStatus
from togetherchat_server.usage.report import Dimension, UsageGroup, UsageQuery, UsageReport, UsageSums

SECOND_US: Final = 1_000_000

DIMENSIONS: Final[Mapping["service.UsageDimension.ValueType", Dimension]] = {
    service.USAGE_DIMENSION_TENANT: Dimension.TENANT,
    service.USAGE_DIMENSION_MODEL: Dimension.MODEL,
    service.USAGE_DIMENSION_DAY: Dimension.DAY,
    service.USAGE_DIMENSION_HOUR: Dimension.HOUR,
    service.USAGE_DIMENSION_KEY: Dimension.KEY,
    service.USAGE_DIMENSION_USER: Dimension.USER,
    service.USAGE_DIMENSION_REASON: Dimension.REASON,
}
METRICS: Final[Mapping[Bucket, "service.QuotaMetric.ValueType"]] = {
    Bucket.CONCURRENT_CALLS: service.QUOTA_METRIC_CONCURRENT_CALLS,
    Bucket.REQUESTS_PER_MINUTE: service.QUOTA_METRIC_REQUESTS_PER_MINUTE,
    Bucket.TOKENS_PER_MINUTE: service.QUOTA_METRIC_TOKENS_PER_MINUTE,
    Bucket.COST_PER_DAY: service.QUOTA_METRIC_COST_PER_DAY,
    Bucket.COST_PER_MONTH: service.QUOTA_METRIC_COST_PER_MONTH,
}


def usage_response(query: UsageQuery, report: UsageReport) -> service.QueryUsageResponse:
    """Return the page of a report, without the token of the next page."""
    return service.QueryUsageResponse(
        start_time=_timestamp(query.start_us),
        end_time=_timestamp(query.end_us),
        rows=(_row(query.group_by, group) for group in report.groups),
        total=_sums(report.total),
    )


def _row(group_by: Sequence[Dimension], group: UsageGroup) -> service.UsageRow:
    row = _sums(group.sums)
    start_us = -1
    for dimension, value in zip(group_by, group.values, strict=True):
        if isinstance(value, int):  # the hour is later than its day, or equal
            start_us = max(start_us, value)
        else:
            setattr(row, dimension.value, value)
    if start_us >= 0:
        row.start_time.CopyFrom(_timestamp(start_us))
    return row


def _sums(sums: UsageSums) -> service.UsageRow:
    return service.UsageRow(
        calls=sums.calls,
        failed_calls=sums.failed_calls,
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cached_tokens=sums.cached_tokens,
        reasoning_tokens=sums.reasoning_tokens,
        cost_nano_usd=sums.cost_nano_usd,
        estimated_cost_nano_usd=sums.estimated_cost_nano_usd,
        estimated_calls=sums.estimated_calls,
        unpriced_calls=sums.unpriced_calls,
        duration_p50=_duration(sums.duration_p50_us),
        duration_p95=_duration(sums.duration_p95_us),
        first_token_p50=_duration(sums.first_token_p50_us),
        first_token_p95=_duration(sums.first_token_p95_us),
    )


def quota_message(status: QuotaStatus) -> service.Quota:
    """Return one limit of a tenant."""
    return service.Quota(
        tenant=status.tenant,
        metric=METRICS[status.bucket],
        limit=status.limit,
        used=status.used,
        reserved=status.reserved,
        left=status.left,
        soft_limit=status.soft_limit,
        reset_time=None if status.reset_us is None else _timestamp(status.reset_us),
    )


def _timestamp(us: int) -> Timestamp:
    seconds, rest_us = divmod(us, SECOND_US)
    return Timestamp(seconds=seconds, nanos=rest_us * 1000)


def _duration(us: int | None) -> Duration | None:
    if us is None:
        return None
    seconds, rest_us = divmod(us, SECOND_US)
    return Duration(seconds=seconds, nanos=rest_us * 1000)
