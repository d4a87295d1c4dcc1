"""Writes finished calls to the database, off the path of the calls.

The event loop appends a record to a queue and continues. One thread takes the queue several times a second
and puts the rows into files. A second thread inserts them into the database, at most a second or 500 rows
later, and removes the files. So whatever the database does, a process that is killed loses the rows of the
last `INTAKE_S` only. Inserting a row again changes nothing, so rows of a file are never counted twice.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.usage.backlog import BATCH_ROWS, Backlog, RowGroup
from togetherchat_server.usage.checked_connection import CheckedConnection, WrongSchemaError
from togetherchat_server.usage.database import UsageDatabase, describe
from togetherchat_server.usage.retention import EXPIRY_EVERY_S, expire_rows
from togetherchat_server.usage.row import ledger_row
from togetherchat_server.usage.rows import insert_possible_rows
from togetherchat_server.usage.spill_folder import SpillFolder

INTAKE_S: Final = 0.2
"""How long a finished call is in memory only."""
WRITE_EVERY_S: Final = 1.0
QUEUE_ROWS_MAX: Final = 50_000
RETRY_EVERY_S: Final = 1.0
PROBE_EVERY_S: Final = 10.0
"""How often an idle writer checks the database."""
ADOPT_EVERY_S: Final = 5.0
FLUSH_S: Final = 2.0
"""At the end of the process, until rows are left to the next one."""
STOP_S: Final = 4.0
"""Until the process ends although the database has not answered."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterEnvironment:
    """Clocks in seconds, and the number of calls in flight."""

    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    in_flight: Callable[[], int]


@final
class UsageWriter:
    """Takes finished calls, and writes them. `record` may be called before `start`."""

    def __init__(
        self,
        database: UsageDatabase,
        folder: SpillFolder | None,
        environment: WriterEnvironment,
        *,
        retention_days: int,
    ) -> None:
        self._connection = CheckedConnection(database)
        self._folder = folder
        self._environment = environment
        self._retention_days = retention_days
        self._backlog = Backlog(folder, clock=environment.clock)
        self._queue = deque[CallRecord]()
        self._closed = False
        self._recorded = 0
        self._overflowed = 0
        self._queued_since_s: float | None = None
        """When the oldest record of the queue came, at the earliest."""
        self._taken_since_s: float | None = None
        """The same of the records that are on their way from the queue to the backlog."""
        self._problem = ""
        self._retry_at_s = float("-inf")
        self._probe_at_s = float("-inf")
        self._adopt_at_s = float("-inf")
        self._expire_at_s = float("-inf")
        self._flush_until_s = float("inf")
        self._ready = threading.Event()
        self._stop_intake = threading.Event()
        self._stop_writing = threading.Event()
        self._threads = (
            threading.Thread(target=self._run_intake, name="usage-intake", daemon=True),
            threading.Thread(target=self._run_writer, name="usage-writer", daemon=True),
        )
        self._handled = 0
        self._adopted_once = False
        self.written = 0
        self.rejected = 0
        self.killed = 0
        """Rows that processes before this one lost when they were killed."""

    @property
    def available(self) -> bool:
        """Whether the database takes rows, as far as is known."""
        return not self._problem

    @property
    def full(self) -> int:
        """Rows lost because neither database nor files nor memory had room."""
        return self._overflowed + self._backlog.dropped

    @property
    def damaged(self) -> int:
        """Rows lost because their file could not be read."""
        return self._backlog.damaged

    @property
    def spilled_rows(self) -> int:
        """Rows in files that wait for the database."""
        return self._backlog.rows_in_files

    @property
    def drained(self) -> bool:
        """Whether the database has all rows that ended processes left in files."""
        if self._folder is None:
            return True
        return self._adopted_once and not self._folder.holds_adopted()

    def lag_s(self) -> float:
        """Return the age of the oldest row that is not in the database."""
        since_s = min((one for one in (self._queued_since_s, self._taken_since_s) if one), default=None)
        in_memory_s = 0.0 if since_s is None else self._environment.clock() - since_s
        return max(in_memory_s, self._backlog.oldest_age_s())

    def record(self, record: CallRecord) -> None:
        """Take a finished call: the sink of call records. Never waits, never raises.

        A call about usage or quotas gets no row.
        """
        if not record.metered:
            return
        if self._closed:
            self._overflowed += 1
            return
        self._recorded += 1
        if self._folder is not None:
            self._folder.counts.set_recorded(self._recorded)
        if len(self._queue) >= QUEUE_ROWS_MAX:
            self._overflowed += 1
            return
        self._queue.append(record)
        if self._queued_since_s is None:
            self._queued_since_s = self._environment.clock()

    def start(self) -> None:
        """Start the threads."""
        self._ready.set()
        for thread in self._threads:
            thread.start()

    async def aclose(self) -> None:
        """Write what waits, for `FLUSH_S`; the rest stays in files for the next process."""
        self._closed = True
        intake, writer = self._threads
        if intake.ident is not None:
            self._stop_intake.set()
            await asyncio.to_thread(intake.join, STOP_S)
            self._flush_until_s = self._environment.clock() + FLUSH_S
            self._stop_writing.set()
            self._ready.set()
            await asyncio.to_thread(writer.join, STOP_S)
        self._backlog.close()
        left = self._backlog.rows
        if left and self._folder is None:
            _log.error("usage ledger: the database is unavailable, and %d rows in memory are lost", left)
        elif left:
            _log.warning("usage ledger: %d rows wait in files for the next start", left)
        if self._folder is not None and not writer.is_alive():
            self._folder.close()

    def _run_intake(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop_intake.wait(INTAKE_S)
            self._taken_since_s, self._queued_since_s = self._queued_since_s, None
            records = [self._queue.popleft() for _ in range(len(self._queue))]
            self._take(records)
            self._taken_since_s = None
            if self._folder is not None:
                self._folder.counts.set_dropped(self.full)
                self._folder.counts.set_in_flight(self._environment.in_flight())
            if self._backlog.rows >= BATCH_ROWS:
                self._ready.set()

    def _take(self, records: list[CallRecord]) -> None:
        try:
            self._backlog.add([ledger_row(record) for record in records])
        except Exception:  # noqa: BLE001  the thread must live, whatever a record has
            self._backlog.dropped += len(records)
            _log.exception("usage ledger: %d rows are lost", len(records))

    def _run_writer(self) -> None:
        stopping = False
        while not stopping:
            self._ready.wait(WRITE_EVERY_S)
            self._ready.clear()
            stopping = self._stop_writing.is_set()
            self._adopt()
            try:
                self._write(stopping=stopping)
            except WrongSchemaError as problem:
                self._failed(str(problem), wrong_schema=True)
            except Exception as problem:  # noqa: BLE001  a driver may raise anything; the thread must live
                self._failed(describe(problem))
        self._connection.close()

    def _write(self, *, stopping: bool) -> None:
        """Write what waits, and delete what is old."""
        clock = self._environment.clock
        if self._problem and clock() < self._retry_at_s and not stopping:
            return
        while (group := self._backlog.first()) is not None and clock() < self._flush_until_s:
            self._insert(group)
            self._backlog.remove(group)
            self._recovered()
        if not stopping and (self._problem or clock() >= self._probe_at_s):
            self._connection.probe()
            self._probe_at_s = clock() + PROBE_EVERY_S
            self._recovered()
        if not stopping and clock() >= self._expire_at_s:
            self._expire()

    def _insert(self, group: RowGroup) -> None:
        rows, connection = group.rows or [], self._connection.get()
        rejected = insert_possible_rows(connection, rows, now_us=self._now_us())
        self.written += len(rows) - len(rejected)
        self.rejected += len(rejected)
        for row_id, name in rejected.items():
            _log.error("usage ledger: the row %s cannot be stored: %s", row_id, name)
        if group.number and self._folder is not None:
            self._handled += group.count
            self._folder.counts.set_handled(self._handled, through=group.number)

    def _expire(self) -> None:
        connection, clock = self._connection.get(), self._environment.clock
        until_s = clock() + WRITE_EVERY_S / 2
        while clock() < until_s:
            with connection.begin():
                more = expire_rows(connection, now_us=self._now_us(), retention_days=self._retention_days)
            if not more:
                self._expire_at_s = clock() + EXPIRY_EVERY_S
                return

    def _adopt(self) -> None:
        """Take over the rows of processes that have ended."""
        if self._folder is None or self._environment.clock() < self._adopt_at_s:
            return
        self._adopt_at_s = self._environment.clock() + ADOPT_EVERY_S
        try:
            for found in self._folder.adopt():
                self._backlog.adopt(found.files)
                self.killed += found.lost
                if found.lost or found.in_flight:
                    _log.warning(
                        "usage ledger: a process was killed: %d rows of its last moments are lost, "
                        "and %d calls in flight have no row",
                        found.lost,
                        found.in_flight,
                    )
            self._adopted_once = True
        except OSError as problem:
            _log.warning("usage ledger: cannot take over files of rows: %s", problem.strerror)

    def _failed(self, problem: str, *, wrong_schema: bool = False) -> None:
        """Log the first failure of an outage, and what an operator must do before it can end."""
        self._connection.drop()
        self._retry_at_s = self._environment.clock() + RETRY_EVERY_S
        if not self._problem or (wrong_schema and problem != self._problem):
            place = "files" if self._folder is not None else "memory"
            _log.warning("usage ledger: the database is unavailable (%s): rows wait in %s", problem, place)
        self._problem = problem

    def _recovered(self) -> None:
        if self._problem:
            _log.warning("usage ledger: the database is available again; %d rows wait", self._backlog.rows)
            self._problem = ""

    def _now_us(self) -> int:
        return int(self._environment.wall_clock() * 1e6)
