"""The scripted upstream follows its script: other tests rely on that."""

import asyncio

import pytest

from support.scripted_upstream import Request, ScriptedUpstream, always, in_turn
from support.upstream_script import (
    AwaitClose,
    Fin,
    Pause,
    Pieces,
    Reset,
    Send,
    chunk,
    http_response,
    json_response,
    sse,
)

REQUEST = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


async def connect(upstream: ScriptedUpstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", upstream.port)


async def test_responses_are_sent_in_turn_and_the_last_one_repeats():
    """Requests on one connection get the scripted responses, and the request log has them."""
    async with ScriptedUpstream(in_turn(http_response(200, b"1"), http_response(200, b"2"))) as upstream:
        reader, writer = await connect(upstream)
        writer.write(REQUEST * 3)
        for body in (b"1", b"2", b"2"):
            assert b"HTTP/1.1 200 Scripted\r\nContent-Length: 1\r\n\r\n" + body == await reader.readexactly(
                45
            )
        writer.close()
        await upstream.closed(0)
    first, *_ = upstream.request_log.requests
    assert ("POST", "/v1/x", b"{}", "h", 45) == (
        first.method,
        first.path,
        first.body,
        first.headers["host"],
        first.bytes_sent,
    )


async def test_a_fin_ends_and_a_reset_breaks():
    """The peer sees a FIN as the end and an RST as an error."""
    async with ScriptedUpstream(in_turn((Send(b"x"), Fin()), (Reset(),))) as upstream:
        reader, writer = await connect(upstream)
        writer.write(REQUEST)
        assert b"x" == await reader.read()
        writer.close()
        reader, writer = await connect(upstream)
        writer.write(REQUEST)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_close_is_seen_while_the_script_pauses():
    """Reading never stops, so the time of the peer's close is exact."""
    never = asyncio.Event()
    async with ScriptedUpstream(always((Pause(never),))) as upstream:
        _, writer = await connect(upstream)
        writer.write(REQUEST)
        await upstream.received()
        assert [0] == upstream.request_log.still_open
        writer.close()
        assert upstream.request_log.requests[0].received_at < await upstream.closed(0)


async def test_a_peer_that_closed_its_side_still_gets_a_response():
    """A half-closed connection can still be written to."""
    async with ScriptedUpstream(always((AwaitClose(), Pieces(b"late"), Fin()))) as upstream:
        reader, writer = await connect(upstream)
        writer.write(REQUEST)
        await upstream.received()
        writer.write_eof()
        assert b"late" == await reader.read()
        writer.close()


async def test_a_script_that_fails_fails_the_test():
    """An exception in a script fails the test instead of being lost in a task."""

    def script(_request: Request):
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  it is raised by leaving the context
        async with ScriptedUpstream(script) as upstream:
            reader, writer = await connect(upstream)
            writer.write(REQUEST)
            assert b"" == await reader.read()
            writer.close()
    assert caught.group_contains(LookupError)


async def test_waiting_for_an_event_that_does_not_happen_times_out():
    """Waiting raises TimeoutError instead of blocking the test."""
    async with ScriptedUpstream(always(())) as upstream:
        with pytest.raises(TimeoutError):
            await upstream.closed(0, within_s=0.01)


def test_common_responses():
    """Common responses have exactly these bytes."""
    (sent,) = json_response(429, {"a": 1}, {"Retry-After": 7})
    assert (
        b"HTTP/1.1 429 Scripted\r\nContent-Length: 8\r\nContent-Type: application/json\r\nRetry-After: 7\r\n\r\n"
        b'{"a": 1}'
    ) == sent.data
    _, event, end = sse(["[DONE]"])
    assert (chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n") == (event.data, end.data)
