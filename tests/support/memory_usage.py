"""A ledger and quotas in memory, with the arithmetic of the real ones, for tests of what reads them."""

import math
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime

from togetherchat_server.tenants.quota_status import Bucket, QuotaStatus
from togetherchat_server.usage.report import Dimension, UsageGroup, UsageReport, UsageSums
from togetherchat_server.usage.row import LedgerRow

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
NOON_US = int(datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()) * SECOND_US

VALUES = {
    Dimension.TENANT: lambda row: row.tenant,
    Dimension.MODEL: lambda row: row.model,
    Dimension.DAY: lambda row: row.time_us // DAY_US * DAY_US,
    Dimension.HOUR: lambda row: row.time_us // HOUR_US * HOUR_US,
    Dimension.KEY: lambda row: row.key_id or row.subject,
    Dimension.USER: lambda row: row.user,
    Dimension.REASON: lambda row: row.reason,
}


def ledger_row(number=1, *, time_us=NOON_US, **fields):
    """Return the row of a call that succeeded, with plausible numbers."""
    facts = {
        "call_id": f"call-{number}",
        "tenant": "acme",
        "key_id": "5f0c2a91d3b7",
        "subject": "",
        "user": "",
        "model_requested": "some/model",
        "model": "some/model",
        "protocol": "grpc",
        "method": "/togetherchat.v1.ChatService/Complete",
        "code": "OK",
        "reason": "",
        "upstream": "sandbox",
        "upstream_request_id": "",
        "attempts": 1,
        "input_tokens": 100,
        "output_tokens": 10,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "estimated_cost_nano_usd": 0,
        "estimated": False,
        "cost_nano_usd": 1_000_000,
        "duration_us": 250_000,
        "first_token_us": None,
    }
    return LedgerRow(id=f"row-{number}", time_us=time_us, **{**facts, **fields})


def sums_of(rows):
    """Return the sums of rows."""
    durations = [row.duration_us for row in rows]
    first = [row.first_token_us for row in rows if row.first_token_us is not None]
    return UsageSums(
        calls=len(rows),
        failed_calls=sum(row.code != "OK" for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in rows),
        reasoning_tokens=sum(row.reasoning_tokens for row in rows),
        cost_nano_usd=sum(row.cost_nano_usd or 0 for row in rows),
        estimated_cost_nano_usd=sum(row.estimated_cost_nano_usd for row in rows),
        estimated_calls=sum(row.estimated for row in rows),
        unpriced_calls=sum(row.cost_nano_usd is None for row in rows),
        duration_p50_us=nearest_rank(durations, 50),
        duration_p95_us=nearest_rank(durations, 95),
        first_token_p50_us=nearest_rank(first, 50),
        first_token_p95_us=nearest_rank(first, 95),
    )


def nearest_rank(values, percent):
    """Return a percentile; None of nothing."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1] if values else None


class MemoryLedger:
    """A UsageReader over a list of rows. `failure`, if set, is raised instead of a report."""

    def __init__(self, rows=(), *, failure=None):
        self.rows = list(rows)
        self.failure = failure
        self.queries = []

    async def query(self, query):
        self.queries.append(query)
        if self.failure is not None:
            raise self.failure
        groups = defaultdict(list)
        chosen = [row for row in self.rows if self._matches(row, query)]
        for row in chosen:
            groups[tuple(VALUES[dimension](row) for dimension in query.group_by)].append(row)
        found = [UsageGroup(values=values, sums=sums_of(rows)) for values, rows in groups.items()]
        found.sort(key=lambda group: (_times(query, group), -group.sums.cost_nano_usd, group.values))
        end = query.offset + query.limit
        return UsageReport(groups=found[query.offset : end], total=sums_of(chosen), more=end < len(found))

    async def cost_by_tenant(self, start_us, end_us):
        costs = defaultdict(int)
        for row in self.rows:
            if start_us <= row.time_us < end_us:
                costs[row.tenant] += row.cost_nano_usd or 0
        return dict(costs)

    @staticmethod
    def _matches(row, query):
        return query.start_us <= row.time_us < query.end_us and all(
            VALUES[dimension](row) in values for dimension, values in query.filters.items()
        )


def _times(query, group):
    pairs = zip(query.group_by, group.values, strict=True)
    return tuple(value for dimension, value in pairs if dimension in {Dimension.DAY, Dimension.HOUR})


class MemoryQuotas:
    """A QuotaReader over a list of statuses. `reset` forgets requests and tokens per minute."""

    def __init__(self, statuses=()):
        self._statuses = list(statuses)

    async def statuses(self, tenants):
        found = [status for status in self._statuses if not tenants or status.tenant in tenants]
        order = list(Bucket)
        return sorted(found, key=lambda status: (status.tenant, order.index(status.bucket)))

    async def reset(self, tenant):
        per_minute = {Bucket.REQUESTS_PER_MINUTE, Bucket.TOKENS_PER_MINUTE}
        self._statuses = [
            replace(status, used=0) if status.tenant == tenant and status.bucket in per_minute else status
            for status in self._statuses
        ]


def quota_statuses():
    """Return the limits of two tenants."""
    return [
        QuotaStatus(tenant="globex", bucket=Bucket.TOKENS_PER_MINUTE, limit=1000, used=400, reserved=600),
        QuotaStatus(
            tenant="acme",
            bucket=Bucket.COST_PER_DAY,
            limit=30 * 10**9,
            used=24 * 10**9,
            reserved=7 * 10**9,
            soft_limit=24 * 10**9,
            reset_us=NOON_US + 12 * HOUR_US,
        ),
        QuotaStatus(
            tenant="acme",
            bucket=Bucket.REQUESTS_PER_MINUTE,
            limit=60,
            used=60,
            reserved=0,
            reset_us=NOON_US + 60 * SECOND_US,
        ),
    ]


def install(app, *, usage=None, quotas=None):
    """Give the sessions of a `RunningApp` these readers."""
    sessions = app.app.frontends.sessions
    sessions._parts = replace(sessions._parts, usage=usage, quotas=quotas)
