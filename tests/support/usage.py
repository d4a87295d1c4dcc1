"""Rows of the usage ledger, their sums as a plain loop computes them, and the ledger of a running service."""

import dataclasses
import random
import sqlite3
from collections import defaultdict

from togetherchat_server.usage.report import Dimension, UsageQuery, UsageSums
from togetherchat_server.usage.row import LedgerRow

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
START_US = 20_000 * DAY_US
"""2024-10-04, the first day of the rows."""
ALWAYS = {"start_us": 0, "end_us": 2**62}


def usage_row(number=0, **fields):
    """Return a row. `number` identifies it."""
    row = LedgerRow(
        id=f"process-{number:x}", time_us=START_US + number, call_id=f"call-{number}", tenant="acme", key_id="key",
        subject="", user="", model_requested="fast", model="openai/gpt-oss-120b", protocol="grpc",
        method="/togetherchat.v1.ChatService/Complete", code="OK", reason="", upstream="together",
        upstream_request_id="", attempts=1, input_tokens=10, output_tokens=20, cached_tokens=5, reasoning_tokens=2,
        estimated_cost_nano_usd=0, estimated=False, cost_nano_usd=1_000, duration_us=1_000 + number, first_token_us=None,
    )  # fmt: skip
    return dataclasses.replace(row, **fields)


def mixed_rows(number, *, days=5, seed=1):
    """Return rows that differ in everything that reports distinguish."""
    chance = random.Random(seed)
    return [
        usage_row(
            index,
            time_us=START_US + chance.randrange(days * DAY_US),
            tenant=chance.choice(["", "acme", "Zeta", "ähre"]),
            key_id=chance.choice(["", "k1", "k2"]),
            subject=chance.choice(["", "spiffe://one"]),
            user=chance.choice(["", "alice", "bob 💶"]),
            model=chance.choice(["", "a/one", "b/two", "B/three"]),
            **chance.choice(
                [{"code": "OK", "reason": ""}, {"code": "UNAVAILABLE", "reason": "UPSTREAM_OVERLOADED"}]
            ),
            input_tokens=chance.randrange(1_000),
            output_tokens=chance.randrange(1_000),
            cached_tokens=chance.randrange(10),
            reasoning_tokens=chance.randrange(10),
            cost_nano_usd=chance.choice([None, 0, chance.randrange(10**12)]),
            estimated_cost_nano_usd=chance.choice([0, 7]),
            estimated=chance.random() < 0.3,
            duration_us=chance.randrange(10**7),
            first_token_us=chance.choice([None, chance.randrange(10**6)]),
        )
        for index in range(number)
    ]


VALUES = {
    Dimension.TENANT: lambda row: row.tenant,
    Dimension.MODEL: lambda row: row.model,
    Dimension.DAY: lambda row: row.time_us - row.time_us % DAY_US,
    Dimension.HOUR: lambda row: row.time_us - row.time_us % HOUR_US,
    Dimension.KEY: lambda row: row.key_id or row.subject,
    Dimension.USER: lambda row: row.user,
    Dimension.REASON: lambda row: row.reason,
}


def nearest_rank(values, percent):
    """Return the percentile by its definition; None without values."""
    ordered = sorted(value for value in values if value is not None)
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else None


def sums_of(rows, *, percentiles=True):
    """Return the sums of rows."""
    sums = UsageSums(
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
    )
    if not percentiles:
        return sums
    durations = [row.duration_us for row in rows]
    firsts = [row.first_token_us for row in rows]
    return dataclasses.replace(
        sums,
        duration_p50_us=nearest_rank(durations, 50),
        duration_p95_us=nearest_rank(durations, 95),
        first_token_p50_us=nearest_rank(firsts, 50),
        first_token_p95_us=nearest_rank(firsts, 95),
    )


def groups_of(rows, *dimensions, percentiles=True):
    """Return the sums by the values of the dimensions, in the order of a report."""
    members = defaultdict(list)
    for row in rows:
        members[tuple(VALUES[dimension](row) for dimension in dimensions)].append(row)
    sums = {values: sums_of(group, percentiles=percentiles) for values, group in members.items()}
    times = [number for number, one in enumerate(dimensions) if one in {Dimension.DAY, Dimension.HOUR}]
    return sorted(
        sums.items(),
        key=lambda item: ([item[0][number] for number in times], -item[1].cost_nano_usd, item[0]),
    )


def usage_query(*dimensions, filters=None, **fields):
    """Return a query over all time."""
    return UsageQuery(**{**ALWAYS, "group_by": dimensions, "filters": filters or {}, **fields})


def sqlite_rows(path, columns="call_id"):
    """Return the rows of a ledger in SQLite, whatever process has it open."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as connection:
        rows = connection.execute(f"SELECT {columns} FROM usage_calls ORDER BY time_us").fetchall()
    connection.close()
    return [row[0] if len(row) == 1 else row for row in rows]
