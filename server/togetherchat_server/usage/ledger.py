"""Opens the usage ledger: the writer of finished calls, and the reader of reports."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, final

from togetherchat_server.config import Settings, SettingsError
from togetherchat_server.config.types import AUTO
from togetherchat_server.domain.reasons import REJECTS_CREDENTIAL
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.usage.database import UsageDatabase
from togetherchat_server.usage.reader import DatabaseReader
from togetherchat_server.usage.report import UsageReader
from togetherchat_server.usage.row import LedgerRow
from togetherchat_server.usage.spill_folder import SpillFolder
from togetherchat_server.usage.writer import UsageWriter, WriterEnvironment

_REJECTED: Final = frozenset(reason.value for reason in REJECTS_CREDENTIAL)

_log = logging.getLogger(__name__)


@final
class UsageLedger:
    """The ledger of one process."""

    def __init__(
        self, writer: UsageWriter, reader: DatabaseReader, folder: SpillFolder | None = None
    ) -> None:
        self.writer: Final = writer
        self.folder: Final = None if folder is None else folder.root
        """The folder in which rows of all processes wait; None if they wait in memory."""
        self._reader = reader

    @property
    def reader(self) -> UsageReader:
        return self._reader

    @property
    def drained(self) -> bool:
        """Whether the database has all rows that ended processes left in files."""
        return self.writer.drained

    def record(self, record: CallRecord) -> None:
        """Take a finished call: a sink of call records. Never waits, never raises.

        A call with a rejected credential is nobody's usage. The audit log has it; here strangers could fill
        the disk.
        """
        if record.reason not in _REJECTED:
            self.writer.record(record)

    async def insert(self, rows: Sequence[LedgerRow]) -> int:
        """Insert the rows that are not in the ledger yet. Return their number.

        Raises:
            ServiceError: USAGE_UNAVAILABLE. Some of the rows may be inserted; inserting them again is safe.
        """
        return await self._reader.insert(rows)

    def start(self) -> None:
        self.writer.start()

    async def aclose(self) -> None:
        """Write what waits, within a few seconds, and close the database."""
        await self.writer.aclose()
        self._reader.close()


def check_ledger(settings: Settings) -> None:
    """Open the database and the folder, and close them again. Migrates the tables of SQLite.

    Raises:
        SettingsError: the database or the folder cannot be used, or the tables have another version.
    """
    assert settings.usage_database is not None  # noqa: S101  the caller checks that the ledger is on
    database = UsageDatabase.parse(settings.usage_database)
    database.prepare()
    if settings.usage_spill_dir != AUTO:  # if that does not work, rows wait in memory
        folder = _open_folder(settings.usage_spill_dir, database, os.environ)
        if folder is not None:
            folder.close()


def open_ledger(
    settings: Settings,
    *,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
    in_flight: Callable[[], int] = lambda: 0,
) -> UsageLedger:
    """Open the ledger that the settings name. `start` starts its threads.

    The tables of SQLite are created or migrated. A PostgreSQL server may be down: rows wait for it.

    Raises:
        SettingsError: the database or the folder cannot be used, or the tables have another version.
    """
    assert settings.usage_database is not None  # noqa: S101  the caller checks that the ledger is on
    database = UsageDatabase.parse(settings.usage_database)
    database.prepare()
    environment = WriterEnvironment(clock=clock, wall_clock=wall_clock, in_flight=in_flight)
    folder = _open_folder(settings.usage_spill_dir, database, os.environ)
    writer = UsageWriter(
        database,
        folder,
        environment,
        retention_days=settings.usage_retention_days,
    )
    return UsageLedger(writer, DatabaseReader(database, wall_clock=wall_clock), folder)


def _open_folder(
    setting: str | None, database: UsageDatabase, environment: Mapping[str, str]
) -> SpillFolder | None:
    """Return the folder in which rows wait; None if they wait in memory."""
    if setting is None:
        return None
    path = _default_folder(database, environment) if setting == AUTO else Path(setting)
    try:
        return SpillFolder(path)
    except OSError as problem:
        if setting != AUTO:
            raise SettingsError(f"--usage-spill-dir: cannot write to {path}: {problem.strerror}") from None
        _log.warning(
            "usage ledger: cannot write to %s (%s): rows wait in memory; set --usage-spill-dir",
            path,
            problem.strerror,
        )
        return None


def _default_folder(database: UsageDatabase, environment: Mapping[str, str]) -> Path:
    """Return the folder beside the file of SQLite, or that of the XDG specification for a program's state."""
    if database.file is not None:
        return database.file.with_name(f"{database.file.name}-spill")
    home = environment.get("HOME", "/")
    state = environment.get("XDG_STATE_HOME") or f"{home}/.local/state"
    return Path(state) / "togetherchat" / "usage-spill"
