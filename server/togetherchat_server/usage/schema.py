"""Tables of the usage ledger: one row per call, and the daily sums of calls whose rows were deleted.

Times are microseconds since 1970, UTC; costs are 1e-9 USD; all numbers are BIGINT. `migrations` creates the
tables; a test compares them with this module.
"""

import dataclasses
import hashlib
from typing import Final

import sqlalchemy as sa

from togetherchat_server.usage.row import LedgerRow

# Every database sorts and compares texts by code point, so that reports have one order.
TEXT: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DAY_US: Final = 86_400_000_000
HOUR_US: Final = 3_600_000_000

METADATA: Final = sa.MetaData()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


CALLS: Final = sa.Table(
    "usage_calls",
    METADATA,
    sa.Column("id", TEXT, primary_key=True),
    _number("time_us"),
    _number("inserted_us"),
    _text("call_id"),
    _text("tenant"),
    _text("key_id"),
    _text("subject"),
    _text("end_user"),  # `user` is a function of PostgreSQL
    _text("model_requested"),
    _text("model"),
    _text("protocol"),
    _text("method"),
    _text("code"),
    _text("reason"),
    _text("upstream"),
    _text("upstream_request_id"),
    _number("attempts"),
    _number("input_tokens"),
    _number("output_tokens"),
    _number("cached_tokens"),
    _number("reasoning_tokens"),
    _number("estimated_cost_nano_usd"),
    sa.Column("estimated", sa.Boolean, nullable=False),
    _number("cost_nano_usd", nullable=True),
    _number("duration_us"),
    _number("first_token_us", nullable=True),
    sa.Index("usage_calls_time", "time_us"),
    sa.Index("usage_calls_tenant_time", "tenant", "time_us"),
)
"""A row per call. `inserted_us` is when the row was written; the other columns are those of `LedgerRow`."""

SUMS: Final = (
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
"""The columns that are summed, by their names in `UsageSums`."""

DAYS: Final = sa.Table(
    "usage_days",
    METADATA,
    sa.Column("id", TEXT, primary_key=True),
    _number("day_us"),
    _text("tenant"),
    _text("model"),
    _text("key"),
    _text("end_user"),
    _text("reason"),
    *(_number(name) for name in SUMS),
    sa.Index("usage_days_day", "day_us"),
    sa.Index("usage_days_tenant_day", "tenant", "day_us"),
)
"""The sums of one day, tenant, model, key, user and reason. `id` is a hash of these: they may be long."""

Values = dict[str, str | int | bool | None]

_RENAMED: Final = {"user": "end_user"}
COLUMNS: Final = {_RENAMED.get(field.name, field.name): field.name for field in dataclasses.fields(LedgerRow)}
"""The columns of `usage_calls` that a row has, and the members of `LedgerRow` in them."""


def call_values(row: LedgerRow, *, inserted_us: int) -> Values:
    """Return the values of a row by column."""
    values: Values = {column: getattr(row, name) for column, name in COLUMNS.items()}
    values["inserted_us"] = inserted_us
    return values


def day_id(day_us: int, *dimensions: str) -> str:
    """Return the id of a row of daily sums."""
    parts = (str(day_us), *dimensions)
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))  # no two lists of parts are equal when joined
        digest.update(encoded)
    return digest.hexdigest()[:32]
