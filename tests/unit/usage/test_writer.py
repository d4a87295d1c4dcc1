"""The writer of finished calls: rows that are rejected, a full queue, retention, and the end."""

import asyncio
import time

import pytest

from support.records import record
from support.usage import DAY_US, START_US, sqlite_rows, usage_row
from support.usage_cases import insert, stored
from support.waiting import eventually
from togetherchat_server.config import Settings
from togetherchat_server.usage import writer as module
from togetherchat_server.usage.database import UsageDatabase
from togetherchat_server.usage.ledger import open_ledger
from togetherchat_server.usage.schema import DAYS

NOW_US = START_US + 500 * DAY_US


@pytest.fixture
def path(tmp_path):
    return tmp_path / "usage.sqlite"


@pytest.fixture
def database(path):
    return UsageDatabase.parse(f"sqlite:///{path}")


@pytest.fixture
def ledger(path):
    settings = Settings(usage_database=f"sqlite:///{path}")
    return open_ledger(settings, clock=time.monotonic, wall_clock=lambda: NOW_US / 1e6)


def recorded(number, **fields):
    return record(record_id=f"process-{number}", id=f"call-{number}", received_us=NOW_US + number, **fields)


async def test_records_are_rows_a_second_later(ledger, path):
    """Those before the start, too."""
    ledger.record(recorded(0))
    ledger.start()
    for number in range(1, 700):
        ledger.record(recorded(number))
    await eventually(lambda: ledger.writer.written == 700)
    lag_s = ledger.writer.lag_s()
    await ledger.aclose()

    assert [f"call-{number}" for number in range(700)] == sqlite_rows(path)
    assert 0 == lag_s


async def test_a_row_that_the_database_rejects_holds_nothing_up(ledger, database, path, caplog):
    """The others of its batch are written; the log names its id."""
    engine = database.writer()
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER picky BEFORE INSERT ON usage_calls WHEN NEW.tenant = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'rejected'); END"
        )
    for number in range(10):
        ledger.record(recorded(number, tenant="bad" if number == 4 else "good"))
    ledger.start()
    await ledger.aclose()

    assert (9, 1, True) == (ledger.writer.written, ledger.writer.rejected, ledger.writer.available)
    assert 9 == len(sqlite_rows(path))
    assert "the row process-4 cannot be stored: IntegrityError" in caplog.text


async def test_a_full_queue_drops_calls_and_counts_them(ledger, path, monkeypatch):
    """As while a disk does not answer at all."""
    monkeypatch.setattr(module, "QUEUE_ROWS_MAX", 5)
    for number in range(8):
        ledger.record(recorded(number))
    ledger.start()
    await ledger.aclose()

    assert (5, 3) == (len(sqlite_rows(path)), ledger.writer.full)


async def test_a_call_after_the_end_is_counted_and_harms_nothing(ledger):
    """As a task that ends late may make one."""
    ledger.start()
    await ledger.aclose()
    ledger.record(recorded(1))

    assert 1 == ledger.writer.full


async def test_old_rows_are_moved_to_the_daily_sums_without_a_command(ledger, database):
    """Soon after the start, then every hour."""
    insert(database, [usage_row(number) for number in range(1_200)], now_us=START_US)
    insert(database, [usage_row(5_000, time_us=NOW_US)], now_us=NOW_US)
    ledger.start()
    await eventually(lambda: len(stored(database)) == 1)
    await ledger.aclose()

    assert [1_200] == [day["calls"] for day in stored(database, DAYS)]


async def test_a_ledger_that_was_not_started_leaves_no_file(ledger, path):
    """But the database. A service may fail to start after it opened the ledger."""
    await ledger.aclose()
    spill = path.with_name("usage.sqlite-spill")

    assert [] == list(spill.iterdir())


async def test_the_event_loop_does_not_wait_for_the_end(ledger):
    """Other calls of the process continue while rows are written."""
    ledger.start()
    ledger.record(recorded(1))
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await ledger.aclose()
    counting.cancel()

    assert turns > 10
