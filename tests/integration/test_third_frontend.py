"""A third frontend has no life of a call of its own: the session gives it what gRPC and HTTP have."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support import line_frontend, openai
from support.app import running_app
from support.line_frontend.response import STATUS
from support.line_frontend.server import LineServer
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys
from support.upstream_script import Send, Stall, json_response, sse, sse_event, sse_head
from support.waiting import eventually
from togetherchat_server.domain.reasons import Reason

HELLO = sse(openai.stream("Hel", "lo", usage=openai.usage(3, 2)))
STALLED = (Send(sse_head() + sse_event(openai.chunk("Hel"))), Stall())
CANCEL_S = 0.25
LINES_MAX = 100


@asynccontextmanager
async def line_service(script, **settings):
    """Run the service with the toy frontend beside its own; yield the app, its upstream and a caller."""
    async with (
        ScriptedUpstream(always(script)) as upstream,
        running_app(upstream.base_url, **settings) as app,
        LineServer(app.app.frontends.sessions).listening() as port,
    ):

        async def call(*, model="some/model", **head):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for line in (head, {"model": model, "prompt": "hello"}):
                writer.write(json.dumps(line).encode() + b"\n")
            return reader, writer

        yield app, upstream, call


async def lines_of(connection):
    """Return every line of a response."""
    reader, writer = connection
    async with asyncio.timeout(10):
        lines = (await reader.read()).splitlines()
    writer.close()
    return [json.loads(line) for line in lines]


async def failure_of(connection):
    *_, last = await lines_of(connection)
    return last["reason"]


def test_a_frontend_is_three_small_files():
    """A request translator, a response translator with the status table, and a listener."""
    folder = Path(line_frontend.__file__).parent
    lengths = {path.name: len(path.read_text().splitlines()) for path in folder.glob("[!_]*.py")}

    assert {"request.py", "response.py", "server.py"} == set(lengths)
    assert LINES_MAX > max(lengths.values())


def test_its_status_table_is_total():
    """A new reason fails here until every frontend has a status for it."""
    assert set(Reason) == set(STATUS)


async def test_it_streams_a_completion():
    """The call is recorded once, with its usage, under the frontend's own name."""
    async with line_service(HELLO) as (app, _, call):
        lines = await lines_of(await call(id="line-1"))
    (record,) = app.records()

    assert "Hello" == "".join(line["text"] for line in lines[:-1])
    assert {"status": "ok", "tokens": 5} == lines[-1]
    assert ("line-1", "lines", "OK", 3) == (
        record["id"],
        record["protocol"],
        record["code"],
        record["prompt_tokens"],
    )


@pytest.mark.parametrize(
    ("script", "head", "reason"),
    [
        (HELLO, {"model": ""}, "INVALID_REQUEST"),
        (json_response(503, openai.error()), {}, "UPSTREAM_OVERLOADED"),
        (STALLED, {"timeout_s": 0.2}, "CALLER_DEADLINE"),
    ],
)
async def test_its_errors_are_those_of_every_frontend(script, head, reason):
    """Validation, the provider's failures and the deadline have the same reasons everywhere."""
    async with line_service(script) as (app, _, call):
        assert reason == await failure_of(await call(**head))
    (record,) = app.records()

    assert (STATUS[reason], reason) == (
        record["code"],
        record["reason"],
    )


async def test_it_authenticates_callers(tmp_path):
    """Keys and tenants need no code in a frontend."""
    keys = Keys(tmp_path / "keys")
    key = keys.create("acme")
    async with line_service(HELLO, api_keys_file=str(keys.path)) as (app, _, call):
        assert "MISSING_CREDENTIALS" == await failure_of(await call())
        assert "INVALID_CREDENTIALS" == await failure_of(await call(key="tc_wrong"))
        assert "ok" == (await lines_of(await call(key=key)))[-1]["status"]

    assert ["", "", "acme"] == [record.get("tenant", "") for record in app.records()]


async def test_it_shares_the_admission_control():
    """Its calls count with those of the other frontends."""
    async with line_service(STALLED, max_concurrent_calls=1) as (app, upstream, call):
        held = await call()
        await upstream.received()
        assert "OVERLOADED" == await failure_of(await call())
        held[1].close()
        await eventually(lambda: app.admission.in_flight == 0)


async def test_a_disconnect_closes_the_connection_to_the_provider():
    """Within 250 ms, as for every frontend; the call is recorded as cancelled."""
    async with line_service(STALLED) as (app, upstream, call):
        reader, writer = await call()
        assert {"text": "Hel"} == json.loads(await reader.readline())
        (connection,) = upstream.request_log.connections
        writer.close()
        began_s = time.monotonic()
        await eventually(lambda: connection.closed_at is not None)
        took_s = connection.closed_at - began_s
    (record,) = app.records()

    assert ("CALLER_CANCELLED", True) == (record["reason"], took_s < CANCEL_S)


async def test_a_drain_aborts_its_calls():
    """The caller learns that the service stops."""
    async with line_service(STALLED) as (app, upstream, call):
        connection = await call()
        await upstream.received()
        app.app.frontends.sessions.abort_in_flight()
        assert "DRAINING" == await failure_of(connection)
