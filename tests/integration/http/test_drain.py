"""The door when the service stops: what runs may end, what comes is told to go elsewhere."""

import asyncio

import pytest

from support.app import failing, request
from support.http_client import ask, events_of, raw_caller, running_door
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, Stall, chunk, json_answer, sse_head
from support.waiting import eventually

WHOLE = {"id": "o", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}]}
PIECE = chunk(
    b'data: {"id":"o","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}]}\n\n'
)


async def test_a_call_that_runs_may_end():
    """It is answered in full, and its connection ends with it."""
    go = asyncio.Event()
    async with (
        ScriptedUpstream(always((Pause(go), *json_answer(200, WHOLE)))) as upstream,
        running_door(upstream.base_url, drain_timeout_s=20) as door,
    ):
        call = asyncio.ensure_future(door.complete())
        await upstream.asked()
        stopping = asyncio.ensure_future(door.app.app.stop())
        await eventually(lambda: door.app.admission._draining)
        go.set()
        response = await call
        await stopping

    assert (200, "Hi") == (response.status_code, response.json()["choices"][0]["message"]["content"])


async def test_a_connection_without_a_call_is_closed_and_none_is_taken():
    """A drain does not wait for idle clients."""
    async with running_door() as door, raw_caller(door) as caller:
        await eventually(lambda: door.app.http_server.connections == 1)
        place = door.place
        await door.app.app.stop()

        assert b"" == await caller.ended()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*place)


async def test_what_does_not_end_in_time_is_told_so():
    """A whole answer fails with 503, a stream with a last event."""
    async with (
        ScriptedUpstream(always((Stall(),))) as silent,
        running_door(silent.base_url, drain_timeout_s=1.2) as door,
    ):
        call = asyncio.ensure_future(door.complete())
        await silent.asked()
        await door.app.app.stop()
        response = await call

    assert (503, "draining") == (response.status_code, response.json()["error"]["code"])
    assert "true" == response.headers["x-should-retry"]


async def test_a_stream_that_does_not_end_in_time_is_told_so():
    """What was sent stands, the error is the last event, and a retry is not asked for."""
    async with (
        ScriptedUpstream(always((Send(sse_head() + PIECE), Stall()))) as silent,
        running_door(silent.base_url, drain_timeout_s=1.2) as door,
    ):
        call = asyncio.ensure_future(door.complete(stream=True))
        await silent.until(lambda ledger: ledger.requests and ledger.requests[0].bytes_sent)
        await door.app.app.stop()
        first, last = events_of((await call).text)

    assert "Hel" == first["choices"][0]["delta"]["content"]
    assert "draining" == last["error"]["code"]
    assert ["DRAINING"] == [record["reason"] for record in door.records()]


async def test_both_fronts_share_one_bound():
    """A place taken over HTTP is not free for gRPC."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_door(upstream.base_url, max_concurrent_calls=1) as door,
        raw_caller(door) as caller,
    ):
        await caller.ask(ask())
        await upstream.asked()
        failure = await failing(door.app.chat.Complete(request()))

    assert "OVERLOADED" == failure.info.reason
