"""HTTP while the service drains: calls in flight may finish, and no new connection is accepted."""

import asyncio
from contextlib import suppress

import pytest

from support import openai
from support.app import failing, request
from support.http_client import raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, Stall, json_response, sse_event, sse_head
from support.waiting import eventually
from togetherchat_server.runtime import app as app_module

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


@pytest.mark.parametrize("calls_before", [0, 1])
async def test_a_request_that_crosses_the_stop_is_served(monkeypatch, calls_before):
    """A proxy sends it on an idle connection. The response announces that the connection closes."""
    monkeypatch.setattr(app_module, "GOAWAY_SETTLE_S", 20)
    stop_now = asyncio.Event()
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url) as service,
        raw_caller(service.address) as caller,
    ):
        await eventually(lambda: service.app.http_server.connections == 1)
        for _ in range(calls_before):
            await caller.post(request_body())
            await caller.read_response()
        stopping = asyncio.ensure_future(service.app.app.stop(stop_now=stop_now))
        await refused(service.address)
        await caller.post(request_body())
        response = await caller.read_to_end()
        stop_now.set()
        await stopping
        monkeypatch.undo()  # the service is stopped once more

    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in response


async def refused(address):
    """Wait until the service accepts no more connections."""
    with suppress(ConnectionRefusedError):
        while True:
            async with raw_caller(address):
                pass


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
