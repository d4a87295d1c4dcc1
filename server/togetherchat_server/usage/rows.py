"""Inserts rows into the ledger. A row that is there already is left as it is."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from togetherchat_server.usage.row import LedgerRow
from togetherchat_server.usage.schema import CALLS, COLUMNS, TEXT, call_values

REJECTED: Final = (exc.DataError, exc.IntegrityError, OverflowError, UnicodeError)
"""Errors of a row."""
_COUNTED: Final = {"preserve_rowcount": True}
_NAMES: Final = tuple(column.name for column in CALLS.columns)


def insert_rows(connection: sa.Connection, rows: Sequence[LedgerRow], *, now_us: int) -> int:
    """Insert the rows that are not there yet, in the caller's transaction. Return their number."""
    if not rows:
        return 0
    if connection.dialect.name == "postgresql":
        values = [call_values(row, inserted_us=now_us) for row in rows]
        columns = {name: [one[name] for one in values] for name in _NAMES}
        return connection.execute(_INSERT_ARRAYS, columns, execution_options=_COUNTED).rowcount
    # The driver's own statement: SQLAlchemy takes 15 us for the parameters of a row.
    parameters = [(now_us, *_row_values(row)) for row in rows]
    return connection.exec_driver_sql(_INSERT_EACH, parameters, execution_options=_COUNTED).rowcount


def insert_possible_rows(
    connection: sa.Connection, rows: Sequence[LedgerRow], *, now_us: int
) -> dict[str, str]:
    """Insert rows in transactions of their own. Return the errors of rows that no retry helps, by id."""
    try:
        with connection.begin():
            insert_rows(connection, rows, now_us=now_us)
    except REJECTED:
        return dict(_insert_one_by_one(connection, rows, now_us))
    return {}


def _insert_one_by_one(
    connection: sa.Connection, rows: Sequence[LedgerRow], now_us: int
) -> Iterator[tuple[str, str]]:
    for row in rows:
        try:
            with connection.begin():
                insert_rows(connection, [row], now_us=now_us)
        except REJECTED as problem:
            yield row.id, type(problem).__name__


def _insert_arrays() -> sa.Insert:
    """Return a statement with an array for each column: 500 rows in 25 ms, not 150 as one by one."""
    types = [sa.Text() if column.type is TEXT else column.type for column in CALLS.columns]
    arrays = [sa.bindparam(name, type_=sa.ARRAY(kind)) for name, kind in zip(_NAMES, types, strict=True)]
    source = sa.func.unnest(*arrays).table_valued(*_NAMES, name="source").render_derived()
    query = sa.select(*source.c)
    insert = postgresql.insert(CALLS).from_select(_NAMES, query)
    return insert.on_conflict_do_nothing(index_elements=[CALLS.c.id])


_INSERT_ARRAYS: Final = _insert_arrays()
_INSERT_EACH: Final = (
    f"INSERT INTO {CALLS.name} (inserted_us, {', '.join(COLUMNS)}) "  # noqa: S608  only names of columns
    f"VALUES ({', '.join('?' * (1 + len(COLUMNS)))}) ON CONFLICT (id) DO NOTHING"
)
_row_values: Final[Callable[[LedgerRow], tuple[object, ...]]] = attrgetter(*COLUMNS.values())
