"""Run by Alembic, with a connection whose transaction holds the lock."""

from alembic import context

from togetherchat_server.usage.migrate import VERSION_TABLE
from togetherchat_server.usage.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
context.run_migrations()
