"""The usage ledger of a real service, in SQLite: what a row has, outages, signals and workers."""

import asyncio
import os
import signal
import sqlite3
from contextlib import contextmanager

import pytest

from support.app import collect, failing, request, running_app
from support.command import running_command
from support.fleet import running_fleet
from support.http_client import COMPLETIONS, request_body, running_http
from support.scraping import scraped
from support.tenants import Keys, bearer
from support.usage import sqlite_rows, usage_query
from support.usage_service import AWAY, BACK, calling, complete_calls, ledger_service
from support.waiting import eventually, poll
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.usage.report import Dimension


@pytest.fixture
def path(tmp_path):
    return tmp_path / "usage.sqlite"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def spill(tmp_path):
    return tmp_path / "spill"


@contextmanager
def locked(path):
    """Hold the write lock of the database."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_every_call_is_one_row(url, path):
    """However it ended, over either protocol."""
    async with running_http(usage_database=url, sandbox_tokens_per_second=0) as http:
        chat = http.app.chat
        await chat.Complete(request(model="openai/gpt-oss-120b", user="alice"))
        await collect(chat.StreamComplete(request(model="sandbox/fast")))
        await failing(chat.Complete(request(model="sandbox/error-503")))
        cancelled = chat.StreamComplete(request(model="sandbox/stall-after-3"))
        await cancelled.read()
        cancelled.cancel()
        await http.client.post(COMPLETIONS, json=request_body())
        await eventually(lambda: http.app.app.in_flight == 0)
    columns = "protocol, model_requested, code, reason, attempts, end_user, first_token_us IS NOT NULL"

    assert [
        ("grpc", "openai/gpt-oss-120b", "OK", "", 1, "alice", 0),
        ("grpc", "sandbox/fast", "OK", "", 1, "", 1),
        ("grpc", "sandbox/error-503", "UNAVAILABLE", "UPSTREAM_OVERLOADED", 1, "", 0),
        ("grpc", "sandbox/stall-after-3", "CANCELLED", "CALLER_CANCELLED", 1, "", 1),
        ("http", "some/model", "OK", "", 1, "", 0),
    ] == sqlite_rows(path, columns)


async def test_a_call_has_its_tenant_and_a_rejected_credential_has_no_row(url, path, tmp_path):
    """Strangers cannot fill the disk."""
    keys = Keys(tmp_path / "keys")
    key = keys.create("acme")
    async with running_app(
        usage_database=url, api_keys_file=str(keys.path), sandbox_tokens_per_second=0
    ) as app:
        await app.chat.Complete(request(), metadata=bearer(key))
        await failing(app.chat.Complete(request()))
        await failing(app.chat.Complete(request(), metadata=bearer("nonsense")))
    (row,) = sqlite_rows(path, "tenant, key_id, subject")

    assert ("acme", keys.listed()[0]["id"], "") == row


async def test_a_row_has_no_content(url, path):
    """Neither prompt nor completion."""
    async with running_app(usage_database=url, sandbox_tokens_per_second=0) as app:
        await app.chat.Complete(request("echo: canary-of-a-prompt"))

    assert 1 == len(sqlite_rows(path))
    assert b"canary-of-a-prompt" not in b"".join(
        one.read_bytes() for one in path.parent.glob("usage.sqlite*") if one.is_file()
    )


async def test_sessions_can_read_the_ledger(url):
    """As RPCs and pages do; a second after the call at the latest."""
    async with running_app(usage_database=url, sandbox_tokens_per_second=0) as app:
        await app.chat.Complete(request())
        reader = app.app.frontends.sessions._parts.usage

        async def read():
            report = await reader.query(usage_query(Dimension.MODEL))
            return report if report.total.calls else None

        report = await poll(read)

    assert [("some/model",)] == [group.values for group in report.groups]


async def test_a_service_without_a_ledger_has_no_reader():
    """And no metrics of it."""
    async with running_app() as app:
        page = await scraped(app.addresses.admin)
        assert None is app.app.frontends.sessions._parts.usage

    assert {} == page.samples(names.USAGE_LEDGER_UP)


async def test_sigterm_writes_what_waits(url, path, spill):
    """No file of rows stays."""
    async with ledger_service(url, spill) as service:
        ids = await complete_calls(service.grpc, 30)
        service.signal(signal.SIGTERM)
        assert 0 == await service.command.wait_for_exit()

    assert ids == sqlite_rows(path)
    assert [] == list(spill.iterdir())


async def test_a_killed_service_loses_the_last_moments_and_says_so(url, path, spill):
    """Rows that are found, and those that the next start reports as lost, are all calls that ended."""
    async with ledger_service(url, spill) as service, calling(service.grpc) as callers:
        await callers.completes(100)
        early = list(callers.completed)
        await asyncio.sleep(1)
        service.signal(signal.SIGKILL)
        await service.command.wait_for_exit()
    async with ledger_service(url, spill) as service:
        await service.command.wait_for_line("a process was killed")
        await service.when_written()
        lost, in_flight = service.lost_by_kill()
        counted = await service.metric(names.USAGE_LEDGER_LOST_ROWS, cause="killed")
    found = sqlite_rows(path)

    assert set() == set(early) - set(found)
    assert len(callers.completed) <= len(found) + lost <= len(callers.completed) + 4
    assert 4 >= in_flight
    assert lost == counted


async def test_no_row_is_lost_while_the_database_is_locked(url, path, spill):
    """Calls go on, rows wait, and the log has one line for each change."""
    async with ledger_service(url, spill) as service, calling(service.grpc) as callers:
        await callers.completes(20)
        with locked(path):
            await service.metric_reaches(names.USAGE_LEDGER_UP, lambda up: up == 0)
            await service.metric_reaches(names.USAGE_LEDGER_LAG, lambda lag_s: lag_s > 2)
            waiting = await service.metric(names.USAGE_LEDGER_SPILLED_ROWS)
            await callers.completes(20)
        await service.metric_reaches(names.USAGE_LEDGER_UP, lambda up: up == 1)
        await callers.stop()
        await service.when_written()
        assert [1, 1] == [len(service.lines(text)) for text in (AWAY, BACK)]
        assert "database is locked" in service.lines(AWAY)[0]

    assert waiting > 20
    assert sorted(callers.completed) == sorted(sqlite_rows(path))


async def test_a_killed_service_loses_no_row_that_waited(url, path, spill):
    """The next process finds the files and writes them."""
    async with ledger_service(url, spill) as service:
        with locked(path):
            ids = await complete_calls(service.grpc, 600)
            await service.metric_reaches(names.USAGE_LEDGER_SPILLED_ROWS, lambda rows: rows == 600)
            service.signal(signal.SIGKILL)
            await service.command.wait_for_exit()
    assert [] == sqlite_rows(path)
    async with ledger_service(url, spill) as service:
        await service.metric_reaches(names.USAGE_LEDGER_ROWS, lambda rows: rows == 600)
        assert (0, 0) == service.lost_by_kill()

    assert ids == sqlite_rows(path)


async def test_no_row_is_lost_while_the_disk_is_full(url, path, spill):
    """Neither the database nor the files can be written: rows wait in memory."""
    async with ledger_service(url, spill) as service, calling(service.grpc) as callers:
        await callers.completes(20)
        service.limit_files(0)
        await service.metric_reaches(names.USAGE_LEDGER_UP, lambda up: up == 0)
        await callers.completes(50)
        await service.metric_reaches(names.USAGE_LEDGER_LAG, lambda lag_s: lag_s > 2)
        service.limit_files(None)
        await callers.stop()
        await service.when_written()
        assert service.lines("rows wait in memory")

    assert sorted(callers.completed) == sorted(sqlite_rows(path))


async def test_rows_wait_in_memory_without_a_folder(url, path):
    """With --usage-spill-dir off; SIGTERM writes them."""
    async with ledger_service(url, "off") as service:
        ids = await complete_calls(service.grpc, 10)
        service.signal(signal.SIGTERM)
        await service.command.wait_for_exit()

    assert ids == sqlite_rows(path)


async def test_a_killed_worker_loses_its_last_moments_only(url, path, spill):
    """Both workers write to one database; the other one takes over the rows and reports the lost ones."""
    arguments = ("--usage-database", url, "--usage-spill-dir", str(spill))
    async with running_fleet(*arguments) as fleet:
        async with calling(fleet.grpc, 8, connections=8) as callers:
            await callers.completes(300)
            early = list(callers.completed)
            await asyncio.sleep(1)
            victim = min(await fleet.pids() & await fleet.wait_until_serving())
            os.kill(victim, signal.SIGKILL)
            await fleet.wait_until_serving(without={victim})
            await callers.completes(100)
        await fleet.command.wait_for_line("a process was killed")
        await eventually(lambda: len(sqlite_rows(path)) >= len(callers.completed) - 100)
        fleet.command.signal(signal.SIGTERM)
        await fleet.command.wait_for_exit()
    found = sqlite_rows(path)

    assert len(found) == len(set(found))
    assert set() == set(early) - set(found)
    assert [] == list(spill.iterdir())


async def test_the_metrics_of_workers_are_merged(url, spill):
    """The rows of both, once."""
    arguments = ("--usage-database", url, "--usage-spill-dir", str(spill))
    async with running_fleet(*arguments) as fleet:
        async with calling(fleet.grpc, 8, connections=8) as callers:
            await callers.completes(100)

        async def written():
            page = await scraped(fleet.admin)
            return page if page.value(names.USAGE_LEDGER_ROWS) == len(callers.started) else None

        page = await poll(written)

    assert {(): 1} == page.samples(names.USAGE_LEDGER_UP)
    assert 0 == page.value(names.USAGE_LEDGER_LOST_ROWS)


@pytest.mark.parametrize(
    ("database", "problem"),
    [
        ("mysql://localhost/usage", "must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"),
        ("sqlite:///", "must be sqlite:///PATH"),
        ("postgresql://ledger:canary@localhost", "must be sqlite:///PATH"),
        ("nonsense canary", "must be sqlite:///PATH"),
        ("sqlite:////nonexistent/usage.sqlite", "cannot write /nonexistent/usage.sqlite: No such file or directory"),
        ("sqlite:////proc/usage.sqlite", "cannot write /proc/usage.sqlite: No such file or directory"),
    ],
)  # fmt: skip
async def test_a_database_that_cannot_be_used_is_an_error_of_one_line(database, problem):
    """The service does not start, and a password is not repeated."""
    async with running_command("--sandbox", "--usage-database", database) as command:
        assert 2 == await command.wait_for_exit()

    (line,) = command.lines
    assert line.startswith(f"togetherchat-server: --usage-database: {problem}")
    assert "canary" not in line


async def test_a_file_that_is_no_database_is_an_error_of_one_line(path):
    """The file is not changed."""
    path.write_text("not a database, but long enough to look like one " * 100, encoding="utf-8")
    before = path.read_bytes()
    async with running_command("--sandbox", "--usage-database", f"sqlite:///{path}") as command:
        assert 2 == await command.wait_for_exit()

    (line,) = command.lines
    assert "file is not a database" in line
    assert before == path.read_bytes()


async def test_a_folder_that_cannot_be_used_is_an_error_of_one_line(url):
    """If the operator named it."""
    arguments = ("--usage-database", url, "--usage-spill-dir", "/proc/spill")
    async with running_command("--sandbox", *arguments) as command:
        assert 2 == await command.wait_for_exit()

    assert [
        "togetherchat-server: --usage-spill-dir: cannot write to /proc/spill: No such file or directory"
    ] == (command.lines)
