"""What a peer may cost before it has asked for anything: bytes, seconds, connections."""

import asyncio
import json
import socket

import pytest

from support.app import running_app
from support.http_client import ask, head, raw_caller, running_door
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Stall, json_answer
from support.waiting import eventually
from togetherchat_server.frontends.http.protocol.listener import ConnectionLimits

WHOLE = {"id": "o", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}]}


def limited(door, **limits):
    """The door with other bounds on its connections, for those that come from now on."""
    door.app.http_server._state.limits = ConnectionLimits(**limits)


def code_of(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]


async def test_a_body_that_says_it_is_too_large_is_refused_unread():
    """Not one byte of it is waited for."""
    async with running_door(max_request_bytes=1024) as door, raw_caller(door) as caller:
        await caller.send(head("content-length: 1025"))
        answer = await caller.head()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert "REQUEST_TOO_LARGE" == door.records()[0]["reason"]


async def test_a_body_of_unknown_length_is_bounded_while_it_is_read():
    """It is refused at the first byte too many, though it would go on."""
    async with running_door(max_request_bytes=1024) as door, raw_caller(door) as caller:
        await caller.send(head("transfer-encoding: chunked") + b"400\r\n" + b" " * 1024 + b"\r\n")
        await caller.send(b"1\r\n \r\n")
        assert (await caller.head()).startswith(b"HTTP/1.1 413 ")


async def test_the_rest_of_a_refused_body_is_thrown_away_and_the_connection_serves_on():
    """The peer is not reset while it sends; when it is done it may ask again."""
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url, max_request_bytes=100_000) as door,
        raw_caller(door) as caller,
    ):
        await caller.send(head("content-length: 300000"))
        first = await caller.head()
        for _ in range(3):
            await caller.send(b" " * 100_000)
        length = int(dict(line.split(b": ") for line in first.split(b"\r\n")[1:-2])[b"content-length"])
        await caller.reader.readexactly(length)
        await caller.ask(ask())
        second = await caller.head()

    assert first.startswith(b"HTTP/1.1 413 ")
    assert second.startswith(b"HTTP/1.1 200 ")


async def test_a_refused_body_that_does_not_end_is_cut_off():
    """A peer that was refused may not send for ever."""
    async with running_door(max_request_bytes=1024) as door:
        limited(door, linger_s=0.2)
        async with raw_caller(door) as caller:
            await caller.send(head("content-length: 1025"))
            assert (await caller.ended()).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_does_not_come_in_time_is_given_up():
    """408, and the place is free again."""
    async with running_door(request_read_timeout_s=0.2) as door, raw_caller(door) as caller:
        await caller.send(head("content-length: 10") + b"{")
        assert (await caller.head()).startswith(b"HTTP/1.1 408 ")
        await eventually(lambda: door.app.app.in_flight == 0)

    assert "CALLER_STALLED" == door.records()[0]["reason"]


@pytest.mark.parametrize("sent", [b"", b"POST /v1", head()[:-2], b"\r\n"])
async def test_headers_that_do_not_come_in_time_cut_the_connection(sent):
    """A peer that says nothing, or a byte now and then, does not stay."""
    async with running_door() as door:
        limited(door, head_s=0.2)
        async with raw_caller(door) as caller:
            await caller.send(sent)
            assert b"" == await caller.ended()


async def test_headers_beyond_their_bound_are_refused():
    """However many they are, or however long one is."""
    async with running_door() as door:
        limited(door, head_bytes_max=4096)
        async with raw_caller(door) as caller:
            await caller.send(head()[:-2] + b"x: " + b"y" * 8192)
            answer = await caller.ended()

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert "request_header_fields_too_large" == code_of(answer)


async def test_a_body_is_not_counted_as_headers():
    """Headers and a body that come in one piece."""
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        limited(door, head_bytes_max=4096)
        async with raw_caller(door) as caller:
            for _ in range(3):
                await caller.ask(ask(messages=[{"role": "user", "content": "x" * 20_000}]))
                first = await caller.head()
                await caller.reader.readexactly(int(first.rpartition(b"content-length: ")[2].split()[0]))
                assert first.startswith(b"HTTP/1.1 200 ")


async def test_connections_beyond_the_bound_are_let_go():
    """Those that are open are not disturbed."""
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        limited(door, connections_max=1)
        async with raw_caller(door) as first:
            await eventually(lambda: door.app.http_server.connections == 1)
            async with raw_caller(door) as second:
                assert b"" == await second.ended()
            await first.ask(ask())
            assert (await first.head()).startswith(b"HTTP/1.1 200 ")


async def test_an_idle_connection_is_closed():
    """In order, after a while."""
    async with running_door() as door:
        limited(door, idle_s=0.0)
        async with raw_caller(door) as caller:
            await caller.send(head(method="GET", path="/nothing"))
            assert (await caller.ended()).startswith(b"HTTP/1.1 404 ")


async def test_a_call_that_waits_has_its_body_read_in_its_turn():
    """A peer that asks to be told before it sends is told when there is a place."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_door(
            upstream.base_url, max_concurrent_calls=1, max_queued_calls=1, queue_timeout_s=20
        ) as door,
        raw_caller(door) as first,
        raw_caller(door) as second,
    ):
        await first.ask(ask())
        await upstream.asked()
        await second.send(head("content-length: 10", "expect: 100-continue"))
        await eventually(lambda: door.app.app.queued == 1)
        first.reset()
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await second.head()


async def test_an_address_in_use_is_said_so():
    """The service does not start, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            async with running_app(http_listen=address):
                await asyncio.sleep(0)
