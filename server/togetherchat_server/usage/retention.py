"""Deletes old rows of calls, after adding them to the daily sums, which are kept.

A row is added and deleted in one transaction, so it counts once. A row that arrives late is added later.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from togetherchat_server.usage.schema import CALLS, DAY_US, DAYS, SUMS, day_id

EXPIRY_EVERY_S: Final = 3600.0
ROWS_PER_TRANSACTION: Final = 500
GRACE_US: Final = DAY_US
"""From the insert of a row until it may be deleted. Until then a second insert of the same row has no effect:
the files of a process that was killed are replayed."""
LOCK_NUMBER: Final = 0x746F6775_72657465
"""Of PostgreSQL's advisory lock: one worker at a time deletes rows."""

_DIMENSIONS: Final = ("tenant", "model", "key", "end_user", "reason")


def cutoff_us(*, now_us: int, retention_days: int) -> int:
    """Return the start of the first day of which the rows are kept."""
    return (now_us - retention_days * DAY_US) // DAY_US * DAY_US


def expire_rows(connection: sa.Connection, *, now_us: int, retention_days: int) -> bool:
    """Move old rows to the daily sums, in the caller's transaction. Return whether there may be more."""
    if connection.dialect.name == "postgresql" and not connection.scalar(
        sa.select(sa.func.pg_try_advisory_xact_lock(LOCK_NUMBER))
    ):
        return False
    old = (
        sa.select(CALLS)
        .where(CALLS.c.time_us < cutoff_us(now_us=now_us, retention_days=retention_days))
        .where(CALLS.c.inserted_us < now_us - GRACE_US)
        .order_by(CALLS.c.time_us)
        .limit(ROWS_PER_TRANSACTION)
    )
    rows = connection.execute(old).mappings().all()
    if not rows:
        return False
    _add(connection, rows)
    connection.execute(sa.delete(CALLS).where(CALLS.c.id.in_([row["id"] for row in rows])))
    return len(rows) == ROWS_PER_TRANSACTION


def _add(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> None:
    days = dict[str, dict[str, Any]]()
    for row in rows:
        day = _day_of(row)
        sums = days.setdefault(day["id"], day | dict.fromkeys(SUMS, 0))
        for name, number in _sums_of(row).items():
            sums[name] += number
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(DAYS)
    added = {name: DAYS.c[name] + statement.excluded[name] for name in SUMS}
    connection.execute(
        statement.on_conflict_do_update(index_elements=[DAYS.c.id], set_=added), list(days.values())
    )


def _day_of(row: sa.RowMapping) -> dict[str, Any]:
    day_us = row["time_us"] // DAY_US * DAY_US
    values = {
        "tenant": row["tenant"],
        "model": row["model"],
        "key": row["key_id"] or row["subject"],
        "end_user": row["end_user"],
        "reason": row["reason"],
    }
    return {"id": day_id(day_us, *(values[name] for name in _DIMENSIONS)), "day_us": day_us, **values}


def _sums_of(row: sa.RowMapping) -> dict[str, int]:
    cost = row["cost_nano_usd"]
    return {
        "calls": 1,
        "failed_calls": int(row["code"] != "OK"),
        "input_tokens": row["input_tokens"],
        "output_tokens": row["output_tokens"],
        "cached_tokens": row["cached_tokens"],
        "reasoning_tokens": row["reasoning_tokens"],
        "cost_nano_usd": cost or 0,
        "estimated_cost_nano_usd": row["estimated_cost_nano_usd"],
        "estimated_calls": int(row["estimated"]),
        "unpriced_calls": int(cost is None),
    }
