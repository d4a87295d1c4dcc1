"""The version of the ledger's tables: reads it, checks it, and migrates, under a lock."""

import enum
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

VERSION_TABLE: Final = "usage_schema_version"
BASE: Final = "base"
HEAD: Final = "head"
LOCK_NUMBER: Final = 0x746F6775_73616765
"""Of PostgreSQL's advisory lock. The number has no meaning; other programs are unlikely to use it."""
LOCK_TIMEOUT_S: Final = 60
"""How long a migration waits for another one."""


class SchemaState(enum.Enum):
    """The tables of a database, compared with those of this version of the service."""

    CURRENT = "current"
    OLDER = "older"
    """Or there are none yet."""
    NEWER = "newer"


def schema_state(connection: sa.Connection) -> SchemaState:
    """Compare the version of the tables with the migrations of this package."""
    found = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()
    script = ScriptDirectory.from_config(_config(connection))
    if found == script.get_current_head():
        return SchemaState.CURRENT
    known = {one.revision for one in script.walk_revisions()}
    return SchemaState.OLDER if found is None or found in known else SchemaState.NEWER


def migrate(connection: sa.Connection, revision: str = HEAD) -> None:
    """Migrate up to the newest version, or up or down to `revision`. The caller's transaction ends it.

    In SQLite the transaction must hold the write lock already. In PostgreSQL a second migration waits here.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_NUMBER)))
    state = schema_state(connection)
    if revision == HEAD and state is not SchemaState.OLDER:
        return
    move = command.upgrade if revision == HEAD else command.downgrade
    move(_config(connection), revision)


def _config(connection: sa.Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
