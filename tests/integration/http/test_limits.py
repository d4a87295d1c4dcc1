"""The bounds on a peer of the HTTP listener: bytes, seconds and connections."""

import asyncio
import json
import socket

import pytest

from support import openai
from support.app import running_app
from support.http_client import head, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Stall, json_response
from support.waiting import eventually
from togetherchat_server.frontends.http.protocol.listener import ConnectionLimits


def limited(service, **limits):
    """Set other bounds, for connections from now on."""
    service.app.http_server._state.limits = ConnectionLimits(**limits)


def code_of(response):
    return json.loads(response.partition(b"\r\n\r\n")[2])["error"]["code"]


async def test_a_body_declared_too_large_is_rejected_unread():
    """The service does not wait for any byte of it."""
    async with running_http(max_request_bytes=1024) as service, raw_caller(service.address) as caller:
        await caller.send(head("content-length: 1025"))
        response = await caller.read_head()

    assert response.startswith(b"HTTP/1.1 413 ")
    assert "REQUEST_TOO_LARGE" == service.records()[0]["reason"]


async def test_a_body_of_unknown_length_is_bounded_while_it_is_read():
    """The request is rejected at the first byte beyond the bound."""
    async with running_http(max_request_bytes=1024) as service, raw_caller(service.address) as caller:
        await caller.send(head("transfer-encoding: chunked") + b"400\r\n" + b" " * 1024 + b"\r\n")
        await caller.send(b"1\r\n \r\n")
        assert (await caller.read_head()).startswith(b"HTTP/1.1 413 ")


async def test_the_rest_of_a_rejected_body_is_discarded_and_the_connection_reused():
    """The peer is not reset while it sends; afterwards it may send another request."""
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url, max_request_bytes=100_000) as service,
        raw_caller(service.address) as caller,
    ):
        await caller.send(head("content-length: 300000"))
        first = await caller.read_head()
        for _ in range(3):
            await caller.send(b" " * 100_000)
        length = int(dict(line.split(b": ") for line in first.split(b"\r\n")[1:-2])[b"content-length"])
        await caller.reader.readexactly(length)
        await caller.post(request_body())
        second = await caller.read_head()

    assert first.startswith(b"HTTP/1.1 413 ")
    assert second.startswith(b"HTTP/1.1 200 ")


async def test_a_rejected_body_that_does_not_end_is_cut_off():
    """The connection is aborted after `linger_s`."""
    async with running_http(max_request_bytes=1024) as service:
        limited(service, linger_s=0.2)
        async with raw_caller(service.address) as caller:
            await caller.send(head("content-length: 1025"))
            assert (await caller.read_to_end()).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_does_not_arrive_in_time_is_rejected():
    """The status is 408, and the permit is released."""
    async with running_http(request_read_timeout_s=0.2) as service, raw_caller(service.address) as caller:
        await caller.send(head("content-length: 10") + b"{")
        assert (await caller.read_head()).startswith(b"HTTP/1.1 408 ")
        await eventually(lambda: service.app.app.in_flight == 0)

    assert "CALLER_STALLED" == service.records()[0]["reason"]


@pytest.mark.parametrize("sent", [b"", b"POST /v1", head()[:-2], b"\r\n"])
async def test_headers_that_do_not_arrive_in_time_end_the_connection(sent):
    """A peer that sends nothing, or a byte now and then, is disconnected."""
    async with running_http() as service:
        limited(service, head_s=0.2)
        async with raw_caller(service.address) as caller:
            await caller.send(sent)
            assert b"" == await caller.read_to_end()


async def test_headers_beyond_the_bound_are_rejected():
    """The bound is on their total size."""
    async with running_http() as service:
        limited(service, head_bytes_max=4096)
        async with raw_caller(service.address) as caller:
            await caller.send(head()[:-2] + b"x: " + b"y" * 8192)
            response = await caller.read_to_end()

    assert response.startswith(b"HTTP/1.1 431 ")
    assert "request_header_fields_too_large" == code_of(response)


async def test_a_body_is_not_counted_as_headers():
    """Headers and body arrive together."""
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        limited(service, head_bytes_max=4096)
        async with raw_caller(service.address) as caller:
            for _ in range(3):
                await caller.post(request_body(messages=[{"role": "user", "content": "x" * 20_000}]))
                first = await caller.read_head()
                await caller.reader.readexactly(int(first.rpartition(b"content-length: ")[2].split()[0]))
                assert first.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "begun", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"], ids=["idle", "head"]
)
async def test_a_connection_beyond_the_bound_replaces_the_longest_idle_one(begun):
    """A flood of connections that send no request does not keep callers out."""
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        limited(service, connections_max=2)
        async with (
            raw_caller(service.address) as first,
            raw_caller(service.address) as second,
            raw_caller(service.address) as third,
        ):
            await first.send(begun)
            await third.post(request_body())
            assert (await third.read_head()).startswith(b"HTTP/1.1 200 ")
            assert b"" == await first.read_to_end()
            await second.post(request_body())
            assert (await second.read_head()).startswith(b"HTTP/1.1 200 ")


async def test_connections_beyond_the_bound_are_closed_if_all_others_have_requests():
    """Requests in flight are not affected."""
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        limited(service, connections_max=1)
        body = json.dumps(request_body()).encode()
        async with raw_caller(service.address) as first:
            await first.send(head(f"content-length: {len(body)}"))
            await eventually(lambda: service.app.app.in_flight == 1)
            async with raw_caller(service.address) as second:
                assert b"" == await second.read_to_end()
            await first.send(body)
            assert (await first.read_head()).startswith(b"HTTP/1.1 200 ")


async def test_an_idle_connection_is_closed():
    """The connection is closed in order after `--http-idle-timeout-s`."""
    async with running_http(http_idle_timeout_s=0.001) as service, raw_caller(service.address) as caller:
        await caller.send(head(method="GET", path="/nothing"))
        assert (await caller.read_to_end()).startswith(b"HTTP/1.1 404 ")


async def test_a_request_is_read_before_its_call_is_queued():
    """A caller that sends slowly waits for no permit. An invalid request is rejected without one."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_http(
            upstream.base_url, max_concurrent_calls=1, max_queued_calls=2, queue_timeout_s=20
        ) as service,
        raw_caller(service.address) as first,
        raw_caller(service.address) as second,
        raw_caller(service.address) as third,
    ):
        await first.post(request_body())
        await upstream.received()
        await third.post({})
        assert (await third.read_head()).startswith(b"HTTP/1.1 400 ")
        body = json.dumps(request_body()).encode()
        await second.send(head(f"content-length: {len(body)}", "expect: 100-continue"))
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await second.read_head()
        assert 0 == service.app.app.queued
        await second.send(body)
        await eventually(lambda: service.app.app.queued == 1)
        first.reset()
        await upstream.received()


async def test_an_address_in_use_is_an_error():
    """The service does not start."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            async with running_app(http_listen=address):
                await asyncio.sleep(0)
