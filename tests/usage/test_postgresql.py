"""The ledger in PostgreSQL does what it does in SQLite: `make test-usage`."""

import asyncio
import time

from support.usage import usage_query, usage_row
from support.usage_cases import LedgerDatabaseCases, insert
from support.waiting import eventually
from togetherchat_server.usage.reader import DatabaseReader


class TestPostgresql(LedgerDatabaseCases):
    """All cases."""


async def test_a_query_that_nobody_waits_for_ends(postgres, database):
    """It would hold one of the few places until its timeout."""
    insert(database, [usage_row()])
    reader = DatabaseReader(database, wall_clock=time.time)
    with postgres.locked():
        # The report waits for the lock.
        query = asyncio.create_task(reader.query(usage_query()))
        await eventually(lambda: waiting(postgres) == 1)
        query.cancel()
        await eventually(lambda: "canceling statement due to user request" in postgres.log())
    reader.close()


def waiting(postgres):
    (row,) = postgres.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%page%' "
        "AND pid <> pg_backend_pid()"
    )
    return row[0]
