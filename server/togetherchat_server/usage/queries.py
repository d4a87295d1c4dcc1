"""Statements of reports, for SQLite and PostgreSQL.

Calls whose rows were deleted are read from the daily sums. They belong to the first moment of their day.
Groups with such calls have no percentiles.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from togetherchat_server.usage.report import Dimension, UsageGroup, UsageQuery, UsageReport, UsageSums
from togetherchat_server.usage.schema import CALLS, DAY_US, DAYS, HOUR_US, SUMS

TIMES: Final = frozenset({Dimension.DAY, Dimension.HOUR})
PERCENTILES: Final = (50, 95)

_Column = sa.ColumnElement[Any]
_Columns = ReadOnlyColumnCollection[str, _Column]


def _start_of(length_us: int) -> _Column:
    return CALLS.c.time_us - CALLS.c.time_us % sa.literal_column(str(length_us))


_OF_CALLS: Final[Mapping[Dimension, Callable[[], _Column]]] = {
    Dimension.TENANT: lambda: CALLS.c.tenant,
    Dimension.MODEL: lambda: CALLS.c.model,
    Dimension.DAY: lambda: _start_of(DAY_US),
    Dimension.HOUR: lambda: _start_of(HOUR_US),
    Dimension.KEY: lambda: sa.case((CALLS.c.key_id != "", CALLS.c.key_id), else_=CALLS.c.subject),
    Dimension.USER: lambda: CALLS.c.end_user,
    Dimension.REASON: lambda: CALLS.c.reason,
}
_OF_DAYS: Final[Mapping[Dimension, _Column]] = {
    Dimension.TENANT: DAYS.c.tenant,
    Dimension.MODEL: DAYS.c.model,
    Dimension.DAY: DAYS.c.day_us,
    Dimension.HOUR: DAYS.c.day_us,
    Dimension.KEY: DAYS.c.key,
    Dimension.USER: DAYS.c.end_user,
    Dimension.REASON: DAYS.c.reason,
}
_SUMS_OF_CALLS: Final[Mapping[str, _Column]] = {
    "calls": sa.literal_column("1"),
    "failed_calls": sa.case((CALLS.c.code != "OK", 1), else_=0),
    "input_tokens": CALLS.c.input_tokens,
    "output_tokens": CALLS.c.output_tokens,
    "cached_tokens": CALLS.c.cached_tokens,
    "reasoning_tokens": CALLS.c.reasoning_tokens,
    "cost_nano_usd": sa.func.coalesce(CALLS.c.cost_nano_usd, 0),
    "estimated_cost_nano_usd": CALLS.c.estimated_cost_nano_usd,
    "estimated_calls": sa.case((CALLS.c.estimated, 1), else_=0),
    "unpriced_calls": sa.case((CALLS.c.cost_nano_usd.is_(None), 1), else_=0),
}
_RANKED: Final = {"duration": CALLS.c.duration_us, "first_token": CALLS.c.first_token_us}


def read_report(connection: sa.Connection, query: UsageQuery) -> UsageReport:
    """Return one page of a report, in the caller's transaction."""
    total = _sums(connection.execute(_statement(query, ())).mappings().one())
    if not query.group_by:
        groups = [UsageGroup(values=(), sums=total)] if total.calls and not query.offset else []
        return UsageReport(groups=groups[: query.limit], total=total, more=False)
    statement = _ordered(_statement(query, query.group_by), query.group_by)
    page = statement.limit(query.limit + 1).offset(query.offset)
    rows = connection.execute(page).mappings().all()
    groups = [
        UsageGroup(values=tuple(row[_name(number)] for number in range(len(query.group_by))), sums=_sums(row))
        for row in rows[: query.limit]
    ]
    return UsageReport(groups=groups, total=total, more=len(rows) > query.limit)


def read_cost_by_tenant(connection: sa.Connection, start_us: int, end_us: int) -> Mapping[str, int]:
    """Return the cost of each tenant's calls in a period."""
    calls = sa.select(CALLS.c.tenant, sa.func.coalesce(CALLS.c.cost_nano_usd, 0).label("cost")).where(
        _within(CALLS.c.time_us, start_us, end_us)
    )
    days = sa.select(DAYS.c.tenant, DAYS.c.cost_nano_usd.label("cost")).where(
        _within(DAYS.c.day_us, start_us, end_us)
    )
    both = sa.union_all(calls, days).subquery()
    statement = sa.select(both.c.tenant, sa.func.sum(both.c.cost)).group_by(both.c.tenant)
    return {tenant: int(cost) for tenant, cost in connection.execute(statement)}


def _statement(query: UsageQuery, group_by: Sequence[Dimension]) -> sa.Select[Any]:
    """Return one row for each combination of the dimensions, in no order."""
    source = sa.union_all(_from_calls(query, group_by), _from_days(query, group_by)).subquery()
    columns = source.c
    names = [_name(number) for number in range(len(group_by))]
    sums = [sa.func.coalesce(sa.func.sum(columns[name]), 0).label(name) for name in SUMS]
    percentiles = [_percentile(columns, ranked, percent) for ranked in _RANKED for percent in PERCENTILES]
    statement = sa.select(*(columns[name] for name in names), *sums, *percentiles)
    return statement.group_by(*(columns[name] for name in names)) if names else statement


def _from_calls(query: UsageQuery, group_by: Sequence[Dimension]) -> sa.Select[Any]:
    groups = [_OF_CALLS[dimension]() for dimension in group_by]
    filters = [_OF_CALLS[dimension]().in_(values) for dimension, values in query.filters.items()]
    ranks = list[_Column]()
    for name, column in _RANKED.items():
        # A rank by its value, those without a value last, and the number of values: both within the group.
        rank = sa.func.row_number().over(partition_by=groups or None, order_by=column.asc().nulls_last())
        number = sa.func.count(column).over(partition_by=groups or None)
        ranks += [column.label(name), rank.label(f"{name}_rank"), number.label(f"{name}_count")]
    columns: list[_Column] = [
        *(group.label(_name(number)) for number, group in enumerate(groups)),
        *(column.label(name) for name, column in _SUMS_OF_CALLS.items()),
        sa.literal_column("0").label("is_day"),
        *ranks,
    ]
    within = _within(CALLS.c.time_us, query.start_us, query.end_us)
    return sa.select(*columns).where(within, *filters)


def _from_days(query: UsageQuery, group_by: Sequence[Dimension]) -> sa.Select[Any]:
    filters = [_OF_DAYS[dimension].in_(values) for dimension, values in query.filters.items()]
    columns: list[_Column] = [
        *(_OF_DAYS[dimension].label(_name(number)) for number, dimension in enumerate(group_by)),
        *(DAYS.c[name] for name in SUMS),
        sa.literal_column("1").label("is_day"),
    ]
    for name in _RANKED:
        columns += [
            sa.cast(sa.null(), sa.BigInteger).label(f"{name}{part}") for part in ("", "_rank", "_count")
        ]
    within = _within(DAYS.c.day_us, query.start_us, query.end_us)
    return sa.select(*columns).where(within, *filters)


def _percentile(columns: _Columns, ranked: str, percent: int) -> sa.Label[Any]:
    """Return the value at the nearest rank: the smallest one that `percent` of the values do not exceed."""
    rank, number, value = columns[f"{ranked}_rank"], columns[f"{ranked}_count"], columns[ranked]
    nearest = (number * sa.literal_column(str(percent)) + 99) // 100
    found = sa.func.max(sa.case((rank == nearest, value)))
    return sa.case((sa.func.max(columns.is_day) == 0, found)).label(f"{ranked}_p{percent}_us")


def _ordered(statement: sa.Select[Any], group_by: Sequence[Dimension]) -> sa.Select[Any]:
    """Order by time, then by falling cost, then by the values."""
    names = [_name(number) for number in range(len(group_by))]
    times = [sa.text(name) for name, one in zip(names, group_by, strict=True) if one in TIMES]
    others = [sa.text(name) for name, one in zip(names, group_by, strict=True) if one not in TIMES]
    return statement.order_by(*times, sa.text("cost_nano_usd DESC"), *others)


def _within(column: _Column, start_us: int, end_us: int) -> _Column:
    return sa.and_(column >= start_us, column < end_us)


def _name(number: int) -> str:
    return f"group_{number}"


def _sums(row: sa.RowMapping) -> UsageSums:
    """Return the sums of a row. PostgreSQL adds BIGINTs to a NUMERIC, hence `int`."""
    percentiles = {
        f"{ranked}_p{percent}_us": row[f"{ranked}_p{percent}_us"]
        for ranked in _RANKED
        for percent in PERCENTILES
    }
    return UsageSums(**{name: int(row[name]) for name in SUMS}, **percentiles)
