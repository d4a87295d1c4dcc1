"""Runs reports in threads, within a time, so that neither the event loop nor the caller waits for long."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Protocol, TypeVar, final, runtime_checkable

import sqlalchemy as sa
from sqlalchemy import exc

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.usage.backlog import BATCH_ROWS
from togetherchat_server.usage.database import UsageDatabase, describe
from togetherchat_server.usage.queries import read_cost_by_tenant, read_report
from togetherchat_server.usage.report import UsageQuery, UsageReport
from togetherchat_server.usage.row import LedgerRow
from togetherchat_server.usage.rows import insert_rows
from togetherchat_server.usage.spill import storable

TIMEOUT_S: Final = 20.0
"""Less than the 30 s that clients wait by default. SQLite needs some 20 s for a million calls."""
QUERIES_MAX: Final = 2
"""Queries at the same time. More wait, within the timeout."""
_CHECK_EVERY: Final = 10_000
"""Instructions of SQLite's virtual machine between two looks at the clock: less than a millisecond."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@runtime_checkable
class _Cancellable(Protocol):
    """A connection of psycopg, whose query another thread can end."""

    def cancel(self) -> None: ...


@final
class DatabaseReader:
    """Reads the ledger: a `UsageReader`. Also inserts rows of other parts, which wait for the result."""

    def __init__(
        self, database: UsageDatabase, *, wall_clock: Callable[[], float], timeout_s: float = TIMEOUT_S
    ) -> None:
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        self._engine = database.reader(timeout_s=timeout_s)
        self._writing_engine = database.writer()
        self._executor = ThreadPoolExecutor(QUERIES_MAX, thread_name_prefix="usage-reader")

    async def query(self, query: UsageQuery) -> UsageReport:
        return await self._run(self._engine, lambda connection: read_report(connection, query))

    async def cost_by_tenant(self, start_us: int, end_us: int) -> Mapping[str, int]:
        return await self._run(
            self._engine, lambda connection: read_cost_by_tenant(connection, start_us, end_us)
        )

    async def insert(self, rows: Sequence[LedgerRow]) -> int:
        """Insert the rows that are not in the ledger yet. Return their number.

        Raises:
            ServiceError: USAGE_UNAVAILABLE. Some of the rows may be inserted; inserting them again is safe.
        """
        number, now_us = 0, int(self._wall_clock() * 1e6)
        for start in range(0, len(rows), BATCH_ROWS):
            part = [storable(row) for row in rows[start : start + BATCH_ROWS]]
            number += await self._run(
                self._writing_engine,
                lambda connection, part=part: insert_rows(connection, part, now_us=now_us),
            )
        return number

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()
        self._writing_engine.dispose()

    async def _run(self, engine: sa.Engine, work: Callable[[sa.Connection], Result]) -> Result:
        """Run the work in a thread and a transaction. The query ends when nobody waits for it."""
        abandoned = threading.Event()
        running = list[_Cancellable]()
        deadline_s = time.monotonic() + self._timeout_s

        def expired() -> bool:
            return abandoned.is_set() or time.monotonic() >= deadline_s

        def run() -> Result:
            with engine.connect() as connection:
                raw = connection.connection.dbapi_connection
                if isinstance(raw, sqlite3.Connection):
                    raw.set_progress_handler(expired, _CHECK_EVERY)
                elif isinstance(raw, _Cancellable):
                    running.append(raw)
                try:
                    with connection.begin():
                        return work(connection)
                finally:
                    running.clear()

        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._executor, run)
        except (exc.SQLAlchemyError, TimeoutError) as problem:
            _log.warning("usage ledger: a query failed: %s", describe(problem))
            raise ServiceError(
                Reason.USAGE_UNAVAILABLE, "the usage ledger does not answer in time; try again later"
            ) from problem
        finally:
            abandoned.set()
            for raw in running:
                # A request of its own to the server, for which nobody waits.
                threading.Thread(target=_cancel, args=(raw,), daemon=True).start()


def _cancel(raw: _Cancellable) -> None:
    with suppress(Exception):  # the connection may be closed already, or the server away
        raw.cancel()
