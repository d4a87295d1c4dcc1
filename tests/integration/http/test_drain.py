"""HTTP while the service drains: calls in flight may finish, and no new connection is accepted."""

import asyncio

import pytest

from support import openai
from support.app import failing, request
from support.http_client import raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, Stall, json_response, sse_event, sse_head
from support.waiting import eventually

DELTA = sse_event(openai.chunk("Hel"))


async def test_a_call_in_flight_may_finish():
    """The caller gets the complete response, and its connection is closed."""
    go = asyncio.Event()
    async with (
        ScriptedUpstream(always((Pause(go), *json_response(200, openai.completion())))) as upstream,
        running_http(upstream.base_url, drain_timeout_s=20) as service,
    ):
        call = asyncio.ensure_future(service.complete())
        await upstream.received()
        stopping = asyncio.ensure_future(service.app.app.stop())
        await eventually(lambda: service.app.admission._draining)
        go.set()
        response = await call
        await stopping

    assert (200, "Hi") == (response.status_code, response.json()["choices"][0]["message"]["content"])


async def test_idle_connections_are_closed_and_new_ones_refused():
    """A drain does not wait for idle clients."""
    async with running_http() as service, raw_caller(service.address) as caller:
        await eventually(lambda: service.app.http_server.connections == 1)
        address = service.address
        await service.app.app.stop()

        assert b"" == await caller.read_to_end()
        with pytest.raises(ConnectionRefusedError):
            async with raw_caller(address):
                pass


async def test_a_unary_call_that_outlasts_the_drain_fails_with_503():
    """The failure is retryable."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_http(upstream.base_url, drain_timeout_s=1.2) as service,
    ):
        call = asyncio.ensure_future(service.complete())
        await upstream.received()
        await service.app.app.stop()
        response = await call

    assert (503, "draining") == (response.status_code, response.json()["error"]["code"])
    assert "true" == response.headers["x-should-retry"]


async def test_a_stream_that_outlasts_the_drain_ends_with_an_error():
    """The error is the last event, after the events already sent."""
    async with (
        ScriptedUpstream(always((Send(sse_head() + DELTA), Stall()))) as upstream,
        running_http(upstream.base_url, drain_timeout_s=1.2) as service,
    ):
        call = asyncio.ensure_future(service.events_before_the_break())
        await upstream.until(lambda log: log.requests and log.requests[0].bytes_sent)
        await service.app.app.stop()
        first, last = await call

    assert "Hel" == first["choices"][0]["delta"]["content"]
    assert "draining" == last["error"]["code"]
    assert ["DRAINING"] == [record["reason"] for record in service.records()]


async def test_both_frontends_share_one_bound():
    """A permit in use by HTTP is not available to gRPC."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_http(upstream.base_url, max_concurrent_calls=1) as service,
        raw_caller(service.address) as caller,
    ):
        await caller.post(request_body())
        await upstream.received()
        failure = await failing(service.app.chat.Complete(request()))

    assert "OVERLOADED" == failure.info.reason
