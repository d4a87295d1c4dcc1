"""The service with a ledger in PostgreSQL: outages, locks, other versions, and kills of either."""

import asyncio
import os
import signal

import psycopg
import pytest

from support.command import running_command
from support.fleet import running_fleet
from support.usage_cases import make_newer, make_older
from support.usage_service import AWAY, BACK, calling, complete_calls, ledger_service
from support.waiting import eventually
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.usage.migrate import SchemaState, schema_state

PASSWORD = "canary-password-of-the-database"


@pytest.fixture
def spill(tmp_path):
    return tmp_path / "spill"


async def until_away(service):
    await service.metric_reaches(names.USAGE_LEDGER_UP, lambda up: up == 0)


async def test_every_call_is_one_row(postgres, spill):
    """With its id, within about a second."""
    async with ledger_service(postgres.url, spill) as service:
        ids = await complete_calls(service.grpc, 20)
        await eventually(lambda: len(postgres.call_ids()) == 20)

    assert ids == postgres.call_ids()
    assert PASSWORD not in service.command.error_text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=lambda one: one.name)
async def test_no_row_is_lost_while_the_server_is_down(postgres, spill, number):
    """However it ended. Calls go on for the seconds until it is back; each is one row."""
    async with ledger_service(postgres.url, spill) as service, calling(service.grpc) as callers:
        await callers.completes(50)
        if number == signal.SIGKILL:
            await asyncio.to_thread(postgres.kill)
        else:
            await asyncio.to_thread(postgres.stop, number)
        await until_away(service)
        await service.metric_reaches(names.USAGE_LEDGER_LAG, lambda lag_s: lag_s > 3)
        await callers.completes(50)
        await asyncio.to_thread(postgres.start)
        await callers.completes(20)
        await callers.stop()
        await service.when_written()
        assert [1, 1] == [len(service.lines(text)) for text in (AWAY, BACK)]
        assert PASSWORD not in service.command.error_text

    assert sorted(callers.completed) == sorted(postgres.call_ids())


async def test_a_service_that_is_killed_during_an_outage_loses_no_row_that_waited(postgres, spill):
    """Neither does the next one, which starts while the server is down."""
    async with ledger_service(postgres.url, spill) as service:
        early = await complete_calls(service.grpc, 5)
        await service.when_written()
        await asyncio.to_thread(postgres.stop)
        ids = await complete_calls(service.grpc, 60)
        await service.metric_reaches(names.USAGE_LEDGER_SPILLED_ROWS, lambda rows: rows == 60)
        service.signal(signal.SIGKILL)
        await service.command.wait_for_exit()
    async with ledger_service(postgres.url, spill) as service:
        await until_away(service)
        more = await complete_calls(service.grpc, 5)
        await service.metric_reaches(names.USAGE_LEDGER_SPILLED_ROWS, lambda rows: rows == 65)
        await asyncio.to_thread(postgres.start)
        await service.when_written()
        assert (0, 0) == service.lost_by_kill()
        service.signal(signal.SIGTERM)
        await service.command.wait_for_exit()

    assert [*early, *ids, *more] == postgres.call_ids()
    assert [] == list(spill.iterdir())


async def test_a_killed_service_loses_its_last_moments_only(postgres, spill):
    """The next one says how many rows."""
    async with ledger_service(postgres.url, spill) as service, calling(service.grpc) as callers:
        await callers.completes(200)
        early = list(callers.completed)
        await asyncio.sleep(1)
        service.signal(signal.SIGKILL)
        await service.command.wait_for_exit()
    async with ledger_service(postgres.url, spill) as service:
        await service.command.wait_for_line("a process was killed")
        await service.when_written()
        lost, _ = service.lost_by_kill()
    found = postgres.call_ids()

    assert set() == set(early) - set(found)
    assert len(callers.completed) <= len(found) + lost <= len(callers.completed) + 4


async def test_sigterm_during_an_outage_leaves_the_rows_to_the_next_process(postgres, spill):
    """The service ends in time, and the next one writes them."""
    async with ledger_service(postgres.url, spill) as service:
        await asyncio.to_thread(postgres.stop)
        ids = await complete_calls(service.grpc, 20)
        service.signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert 0 == await service.command.wait_for_exit()
        assert service.lines("20 rows wait in files for the next start")
    await asyncio.to_thread(postgres.start)
    async with ledger_service(postgres.url, spill) as service:
        await service.metric_reaches(names.USAGE_LEDGER_ROWS, lambda rows: rows == 20)

    assert ids == postgres.call_ids()


async def test_no_call_waits_for_a_lock(postgres, spill):
    """Rows wait while somebody holds the table."""
    async with ledger_service(postgres.url, spill) as service:
        with postgres.locked():
            ids = await complete_calls(service.grpc, 50)
            await until_away(service)
            assert "LockNotAvailable" in service.lines(AWAY)[0]
            ids += await complete_calls(service.grpc, 50)
        await service.when_written()

    assert ids == postgres.call_ids()


async def test_a_server_that_is_read_only_is_unavailable(postgres, spill):
    """As after a failover. Rows wait until it takes writes again."""
    async with ledger_service(postgres.url, spill) as service:
        ids = await complete_calls(service.grpc, 10)
        await service.when_written()
        postgres.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        disconnect(postgres)
        ids += await complete_calls(service.grpc, 10)
        await until_away(service)
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
        disconnect(postgres)
        await service.when_written()

    assert ids == postgres.call_ids()


def disconnect(postgres):
    """End the connections of others, so that they connect anew."""
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'ledger'"
    )


async def test_a_connection_that_is_ended_is_opened_anew(postgres, spill):
    """As a failover or an operator does."""
    async with ledger_service(postgres.url, spill) as service:
        ids = await complete_calls(service.grpc, 10)
        await service.when_written()
        disconnect(postgres)
        ids += await complete_calls(service.grpc, 10)
        await eventually(lambda: len(postgres.call_ids()) == 20)

    assert ids == postgres.call_ids()


async def test_rows_wait_while_the_tables_are_missing(postgres, spill):
    """As during a restore."""
    async with ledger_service(postgres.url, spill) as service:
        postgres.execute("ALTER TABLE usage_calls RENAME TO away")
        ids = await complete_calls(service.grpc, 10)
        await until_away(service)
        assert "UndefinedTable" in service.lines(AWAY)[0]
        postgres.execute("ALTER TABLE away RENAME TO usage_calls")
        await service.when_written()

    assert ids == postgres.call_ids()


async def test_older_tables_name_the_command_that_migrates_them(postgres, database):
    """Nothing is served before; the command does it."""
    make_older(database)
    arguments = ("--usage-database", postgres.url)
    async with running_command("--sandbox", *arguments) as command:
        assert 2 == await command.wait_for_exit()
    (line,) = command.lines
    assert line.startswith(
        "togetherchat-server: --usage-database: the tables are missing or of an older version"
    )
    assert line.endswith("run `togetherchat-server usage migrate` first")
    async with running_command("usage", "migrate", *arguments) as command:
        assert 0 == await command.wait_for_exit()

    engine = database.writer()
    with engine.begin() as connection:
        assert SchemaState.CURRENT is schema_state(connection)


async def test_newer_tables_are_refused(postgres, database):
    """By the service and by the command."""
    make_newer(database)
    environment = {"TOGETHERCHAT_USAGE_DATABASE": postgres.url}
    for arguments, status in ((("--sandbox",), 2), (("usage", "migrate"), 1)):
        async with running_command(*arguments, environment=environment) as command:
            assert status == await command.wait_for_exit()
        assert "the tables are those of a newer version" in command.error_text


async def test_older_tables_that_come_back_after_an_outage_are_not_written(postgres, database, spill):
    """The service started while the server was down, and so could not check them."""
    make_older(database)
    await asyncio.to_thread(postgres.stop)
    async with ledger_service(postgres.url, spill) as service:
        ids = await complete_calls(service.grpc, 5)
        await asyncio.to_thread(postgres.start)
        await service.command.wait_for_line("run `togetherchat-server usage migrate` first")
        assert [] == postgres.call_ids()
        await asyncio.to_thread(database.migrate)
        await service.when_written()

    assert ids == postgres.call_ids()


async def test_migrations_at_the_same_time_wait_for_each_other(server, postgres):
    """Three replicas that start their command together."""
    postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    async def run():
        async with running_command("usage", "migrate", "--usage-database", postgres.url) as command:
            return await command.wait_for_exit(), command.lines

    assert [(0, [])] * 3 == await asyncio.gather(run(), run(), run())


async def test_a_wrong_password_is_not_repeated(postgres):
    """In the error of the command."""
    database = postgres.url.replace(PASSWORD, "canary-of-a-wrong-password")
    async with running_command("usage", "migrate", "--usage-database", database) as command:
        assert 1 == await command.wait_for_exit()

    (line,) = command.lines
    assert line.startswith("togetherchat-server: --usage-database: cannot migrate the tables: ")
    assert "canary" not in line


async def test_a_killed_worker_loses_its_last_moments_only(postgres, spill):
    """The other worker, or the replacement, takes over what waited."""
    arguments = ("--usage-database", postgres.url, "--usage-spill-dir", str(spill))
    async with running_fleet(*arguments) as fleet:
        async with calling(fleet.grpc, 8, connections=8) as callers:
            await callers.completes(200)
            early = list(callers.completed)
            await asyncio.sleep(1)
            victim = min(await fleet.wait_until_serving())
            os.kill(victim, signal.SIGKILL)
            await fleet.wait_until_serving(without={victim})
        await fleet.command.wait_for_line("a process was killed")
        fleet.command.signal(signal.SIGTERM)
        await fleet.command.wait_for_exit()
    found = postgres.call_ids()

    assert len(found) == len(set(found))
    assert set() == set(early) - set(found)
