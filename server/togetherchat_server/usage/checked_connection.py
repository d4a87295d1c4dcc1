"""The writer's connection: opened when it is needed, used only with the tables of this version."""

from contextlib import suppress
from typing import final

import sqlalchemy as sa
from sqlalchemy import exc

from togetherchat_server.usage.database import UsageDatabase, version_problem
from togetherchat_server.usage.migrate import SchemaState, schema_state


class WrongSchemaError(Exception):
    """The tables are those of another version. The message says what to do."""


@final
class CheckedConnection:
    """One connection, for one thread."""

    def __init__(self, database: UsageDatabase) -> None:
        self._engine = database.writer()
        self._connection: sa.Connection | None = None
        self._checked = False

    def get(self) -> sa.Connection:
        """Return the open connection.

        Raises:
            WrongSchemaError: as it says. Checked until it is right once: a newer version may migrate later.
            SQLAlchemyError: the database is not available.
        """
        if self._connection is None:
            self._connection = self._engine.connect()
        if not self._checked:
            with self._connection.begin():
                state = schema_state(self._connection)
            if state is not SchemaState.CURRENT:
                raise WrongSchemaError(version_problem(state))
            self._checked = True
        return self._connection

    def probe(self) -> None:
        """Ask the database for an answer. Raises as `get` does."""
        connection = self.get()
        with connection.begin():
            connection.execute(sa.select(sa.literal(1)))

    def drop(self) -> None:
        """Close the connection, which may be broken."""
        if self._connection is not None:
            with suppress(exc.SQLAlchemyError):
                self._connection.invalidate()
            with suppress(exc.SQLAlchemyError):
                self._connection.close()
            self._connection = None

    def close(self) -> None:
        self.drop()
        self._engine.dispose()
