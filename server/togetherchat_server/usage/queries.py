"""Statements of reports, for SQLite and PostgreSQL.

Calls whose rows were deleted are read from the daily sums. They belong to the first moment of their day.
Groups with such calls have no percentiles.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    rows = connection.execute(_statement(query, query.group_by)).mappings().all()
    names = _names(query.group_by)
    groups = [
        UsageGroup(values=tuple(row[name] for name in names), sums=_sums(row)) for row in rows[: query.limit]
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
    """Return the page of the query and one row more, or the total if `group_by` is empty."""
    names = _names(group_by)
    page = _page(query, group_by).cte("page")
    percentiles = list[_Column]()
    source: sa.FromClause = page
    for ranked in _RANKED:
        found = _percentiles(query, group_by, ranked).cte(ranked)
        same = sa.and_(sa.true(), *(page.c[name] == found.c[name] for name in names))
        source = source.outerjoin(found, same)
        percentiles += [
            # Of days whose rows were deleted nothing is known, so the others would be a part of the truth.
            sa.case((page.c.is_day == 0, found.c[f"p{percent}"])).label(f"{ranked}_p{percent}_us")
            for percent in PERCENTILES
        ]
    columns: list[_Column] = [*(page.c[name] for name in (*names, *SUMS)), *percentiles]
    return sa.select(*columns).select_from(source).order_by(*_order(page.c, group_by))


def _page(query: UsageQuery, group_by: Sequence[Dimension]) -> sa.Select[Any]:
    """Return the sums of each combination of the dimensions."""
    both = sa.union_all(_from_calls(query, group_by), _from_days(query, group_by)).subquery()
    names = _names(group_by)
    sums = [sa.func.coalesce(sa.func.sum(both.c[name]), 0).label(name) for name in SUMS]
    is_day = sa.func.coalesce(sa.func.max(both.c.is_day), 0).label("is_day")
    columns: list[_Column] = [*(both.c[name] for name in names), *sums, is_day]
    statement = sa.select(*columns)
    if not names:
        return statement
    grouped = statement.group_by(*(both.c[name] for name in names)).subquery()
    return (
        sa.select(grouped).order_by(*_order(grouped.c, group_by)).limit(query.limit + 1).offset(query.offset)
    )


def _from_calls(query: UsageQuery, group_by: Sequence[Dimension]) -> sa.Select[Any]:
    columns: list[_Column] = [
        *_groups_of_calls(group_by),
        *(column.label(name) for name, column in _SUMS_OF_CALLS.items()),
        sa.literal_column("0").label("is_day"),
    ]
    return sa.select(*columns).where(*_conditions_of_calls(query))


def _from_days(query: UsageQuery, group_by: Sequence[Dimension]) -> sa.Select[Any]:
    columns: list[_Column] = [
        *(_OF_DAYS[dimension].label(name) for dimension, name in _named(group_by)),
        *(DAYS.c[name] for name in SUMS),
        sa.literal_column("1").label("is_day"),
    ]
    filters = [_OF_DAYS[dimension].in_(values) for dimension, values in query.filters.items()]
    return sa.select(*columns).where(_within(DAYS.c.day_us, query.start_us, query.end_us), *filters)


def _percentiles(query: UsageQuery, group_by: Sequence[Dimension], ranked: str) -> sa.Select[Any]:
    """Return the value at the nearest rank: the smallest one that enough values do not exceed.

    The quotient of two counts is rounded like the literal, so that equal ones are equal.
    """
    value = _RANKED[ranked]
    groups = _groups_of_calls(group_by)
    share = sa.func.cume_dist().over(partition_by=[group.element for group in groups] or None, order_by=value)
    conditions = [*_conditions_of_calls(query), value.is_not(None)]
    ranks = sa.select(*groups, value.label("value"), share.label("share")).where(*conditions).subquery()
    found = [
        sa.func.min(sa.case((ranks.c.share >= sa.literal_column(f"{percent / 100}"), ranks.c.value))).label(
            f"p{percent}"
        )
        for percent in PERCENTILES
    ]
    names = [ranks.c[name] for name in _names(group_by)]
    columns: list[_Column] = [*names, *found]
    statement = sa.select(*columns)
    return statement.group_by(*names) if names else statement


def _order(columns: _Columns, group_by: Sequence[Dimension]) -> list[_Column]:
    """Order by time, then by falling cost, then by the values."""
    if not group_by:
        return []
    times = [columns[name] for dimension, name in _named(group_by) if dimension in TIMES]
    others = [columns[name] for dimension, name in _named(group_by) if dimension not in TIMES]
    return [*times, columns["cost_nano_usd"].desc(), *others]


def _groups_of_calls(group_by: Sequence[Dimension]) -> list[sa.Label[Any]]:
    return [_OF_CALLS[dimension]().label(name) for dimension, name in _named(group_by)]


def _conditions_of_calls(query: UsageQuery) -> list[_Column]:
    filters = [_OF_CALLS[dimension]().in_(values) for dimension, values in query.filters.items()]
    return [_within(CALLS.c.time_us, query.start_us, query.end_us), *filters]


def _within(column: _Column, start_us: int, end_us: int) -> _Column:
    return sa.and_(column >= start_us, column < end_us)


def _named(group_by: Sequence[Dimension]) -> Iterator[tuple[Dimension, str]]:
    return zip(group_by, _names(group_by), strict=True)


def _names(group_by: Sequence[Dimension]) -> list[str]:
    return [f"group_{number}" for number in range(len(group_by))]


def _sums(row: sa.RowMapping) -> UsageSums:
    """Return the sums of a row. PostgreSQL adds BIGINTs to a NUMERIC, hence `int`."""
    names = [f"{ranked}_p{percent}_us" for ranked in _RANKED for percent in PERCENTILES]
    return UsageSums(**{name: int(row[name]) for name in SUMS}, **{name: row[name] for name in names})
