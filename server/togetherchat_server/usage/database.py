"""Opens the ledger's database: SQLite, or PostgreSQL through psycopg.

Owns the URL of --usage-database and what is set on every connection. The URL may contain a password, so no
error repeats it, and errors of the driver are reported by their names.
"""

import importlib.util
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import NullPool

from togetherchat_server.config import SettingsError
from togetherchat_server.usage.migrate import SchemaState, migrate, schema_state

SETTING: Final = "--usage-database"
MIGRATE_COMMAND: Final = "togetherchat-server usage migrate"
FILE_MODE: Final = 0o600
"""The ledger has names of end users."""
MIGRATION_BUSY_S: Final = 30.0
WRITE_TIMEOUT_S: Final = 2.0
"""How long the database may take for one batch, a lock included."""
LOCK_TIMEOUT_S: Final = 1.0
CONNECT_TIMEOUT_S: Final = 2

_POSTGRES_DEFAULTS: Final[dict[str, Any]] = {
    "application_name": "togetherchat",
    "connect_timeout": CONNECT_TIMEOUT_S,
    # A server that vanished without a word.
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDatabase:
    """A database that the settings name. `file` is None for PostgreSQL."""

    url: sa.URL
    file: Path | None

    @classmethod
    def parse(cls, text: str) -> "UsageDatabase":
        """Read the value of --usage-database.

        Raises:
            SettingsError: the URL is invalid, or the driver is not installed.
        """
        try:
            url = sa.make_url(text)
        except (exc.ArgumentError, ValueError):
            raise _bad_url() from None
        if url.drivername == "sqlite" and url.database not in {None, "", ":memory:"} and not url.query:
            return cls(url=url, file=Path(url.database or ""))
        if url.drivername in {"postgresql", "postgres"} and url.database:
            if importlib.util.find_spec("psycopg") is None:
                raise SettingsError(
                    f"{SETTING}: PostgreSQL needs the package psycopg; install it with: "
                    "pip install 'togetherchat[usage,postgres]'"
                )
            return cls(url=url.set(drivername="postgresql+psycopg"), file=None)
        raise _bad_url()

    def writer(self, *, busy_s: float = LOCK_TIMEOUT_S) -> sa.Engine:
        """Return an engine for one thread that writes. A transaction of SQLite holds the write lock."""
        if self.file is not None:
            return _sqlite(self.url, busy_s=busy_s, begin="BEGIN IMMEDIATE")
        return _postgres(self.url, statement_timeout_s=WRITE_TIMEOUT_S, lock_timeout_s=LOCK_TIMEOUT_S)

    def reader(self, *, timeout_s: float) -> sa.Engine:
        """Return an engine for reports. PostgreSQL itself ends a query after `timeout_s`."""
        if self.file is not None:
            return _sqlite(self.url, busy_s=LOCK_TIMEOUT_S, begin="BEGIN")
        return _postgres(self.url, statement_timeout_s=timeout_s, lock_timeout_s=timeout_s)

    def prepare(self) -> None:
        """Create and migrate the tables of SQLite; check those of PostgreSQL, if it can be reached.

        Raises:
            SettingsError: the file cannot be used, or the tables have another version.
        """
        if self.file is not None:
            self._prepare_file(self.file)
            return
        engine = self.writer()
        try:
            with engine.connect() as connection:
                state = schema_state(connection)
        except exc.DBAPIError:
            return  # as during an outage later: rows wait, and the writer checks the tables first
        finally:
            engine.dispose()
        if state is not SchemaState.CURRENT:
            raise SettingsError(version_problem(state))

    def migrate(self) -> None:
        """Migrate to this version's tables.

        Raises:
            SettingsError: the tables are newer, or the database cannot be reached or changed.
        """
        engine = self.writer(busy_s=MIGRATION_BUSY_S)
        try:
            with engine.begin() as connection:
                if schema_state(connection) is SchemaState.NEWER:
                    raise SettingsError(version_problem(SchemaState.NEWER))
                migrate(connection)
        except exc.DBAPIError as problem:
            raise SettingsError(f"{SETTING}: cannot migrate the tables: {describe(problem)}") from None
        finally:
            engine.dispose()

    def _prepare_file(self, file: Path) -> None:
        try:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, FILE_MODE))
        except OSError as problem:
            raise SettingsError(
                f"{SETTING}: cannot write {file}: {problem.strerror}; choose a file in a folder that "
                "exists and that the service may write to"
            ) from None
        engine = self.writer(busy_s=MIGRATION_BUSY_S)
        try:
            with engine.connect() as connection:
                # The mode is a property of the file. Outside a transaction: SQLite changes it nowhere else.
                raw = connection.connection.dbapi_connection
                assert isinstance(raw, sqlite3.Connection)  # noqa: S101  the engine is SQLite's
                raw.execute("PRAGMA journal_mode = WAL")
                with connection.begin():
                    state = schema_state(connection)
                    if state is SchemaState.OLDER:
                        migrate(connection)
        except (exc.DBAPIError, sqlite3.Error) as problem:
            raise SettingsError(f"{SETTING}: cannot use {file}: {describe(problem)}") from None
        finally:
            engine.dispose()
        if state is SchemaState.NEWER:
            raise SettingsError(version_problem(state))


def version_problem(state: SchemaState) -> str:
    """Return why tables of another version cannot be used, and what to do."""
    if state is SchemaState.NEWER:
        return f"{SETTING}: the tables are those of a newer version of togetherchat; start that version"
    return f"{SETTING}: the tables are missing or of an older version; run `{MIGRATE_COMMAND}` first"


def describe(problem: BaseException) -> str:
    """Name an error without its text, which of PostgreSQL may contain values of rows or of the URL."""
    cause = problem.orig if isinstance(problem, exc.DBAPIError) and problem.orig else problem
    name = type(cause).__name__
    return f"{name}: {cause}" if isinstance(cause, sqlite3.Error) else name


def _bad_url() -> SettingsError:
    return SettingsError(f"{SETTING}: must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE")


def _sqlite(url: sa.URL, *, busy_s: float, begin: str) -> sa.Engine:
    # Python's own transactions would begin at the first write, and not before DDL.
    arguments = {"timeout": busy_s, "isolation_level": None, "check_same_thread": False}
    engine = sa.create_engine(url, poolclass=NullPool, connect_args=arguments, hide_parameters=True)

    def connected(raw: sqlite3.Connection, _record: object) -> None:
        # A process that is killed loses nothing in WAL mode; a power loss may lose the last commits.
        raw.execute("PRAGMA synchronous = NORMAL")

    def began(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", began)
    return engine


def _postgres(url: sa.URL, *, statement_timeout_s: float, lock_timeout_s: float) -> sa.Engine:
    # What the operator's URL sets, wins.
    arguments = {name: value for name, value in _POSTGRES_DEFAULTS.items() if name not in url.query}
    # Prepared statements do not survive every connection pooler.
    arguments["prepare_threshold"] = None
    engine = sa.create_engine(url, poolclass=NullPool, connect_args=arguments, hide_parameters=True)
    timeouts = (
        f"SET LOCAL statement_timeout = {statement_timeout_s * 1000:.0f}; "
        f"SET LOCAL lock_timeout = {lock_timeout_s * 1000:.0f}"
    )

    def began(connection: sa.Connection) -> None:
        # For the transaction only: a pooler may give the connection to somebody else.
        connection.exec_driver_sql(timeouts)

    event.listen(engine, "begin", began)
    return engine
