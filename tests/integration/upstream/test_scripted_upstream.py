"""The scripted upstream does what its script says: the tests that stand on it rely on that."""

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
    answer,
    chunk,
    json_answer,
    sse,
)

ASKED = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


async def opened(upstream: ScriptedUpstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", upstream.port)


async def test_requests_are_answered_in_turn_and_the_last_answer_for_ever():
    """Over one connection, with what was asked in the ledger."""
    async with ScriptedUpstream(in_turn(answer(200, b"1"), answer(200, b"2"))) as upstream:
        reader, writer = await opened(upstream)
        writer.write(ASKED * 3)
        for body in (b"1", b"2", b"2"):
            assert b"HTTP/1.1 200 Scripted\r\nContent-Length: 1\r\n\r\n" + body == await reader.readexactly(
                45
            )
        writer.close()
        await upstream.closed(0)
    first, *_ = upstream.ledger.requests
    assert ("POST", "/v1/x", b"{}", "h", 45) == (
        first.method,
        first.path,
        first.body,
        first.headers["host"],
        first.bytes_sent,
    )


async def test_a_fin_ends_and_a_reset_breaks():
    """The two ways of closing, as the peer sees them."""
    async with ScriptedUpstream(in_turn((Send(b"x"), Fin()), (Reset(),))) as upstream:
        reader, writer = await opened(upstream)
        writer.write(ASKED)
        assert b"x" == await reader.read()
        writer.close()
        reader, writer = await opened(upstream)
        writer.write(ASKED)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_close_is_seen_while_the_script_pauses():
    """Reading never stops, so the time of the peer's close is right."""
    never = asyncio.Event()
    async with ScriptedUpstream(always((Pause(never),))) as upstream:
        _, writer = await opened(upstream)
        writer.write(ASKED)
        await upstream.asked()
        assert [0] == upstream.ledger.still_open
        writer.close()
        assert upstream.ledger.requests[0].received_at < await upstream.closed(0)


async def test_a_peer_that_closed_its_side_can_still_be_answered():
    """Half-closed is not closed."""
    async with ScriptedUpstream(always((AwaitClose(), Pieces(b"late"), Fin()))) as upstream:
        reader, writer = await opened(upstream)
        writer.write(ASKED)
        await upstream.asked()
        writer.write_eof()
        assert b"late" == await reader.read()
        writer.close()


async def test_a_script_that_fails_fails_the_test():
    """Not silently, in a task that nobody looks at."""

    def script(_request: Request):
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  it is raised by leaving the context
        async with ScriptedUpstream(script) as upstream:
            reader, writer = await opened(upstream)
            writer.write(ASKED)
            assert b"" == await reader.read()
            writer.close()
    assert caught.group_contains(LookupError)


async def test_what_does_not_happen_is_a_timeout():
    """And not a test that hangs."""
    async with ScriptedUpstream(always(())) as upstream:
        with pytest.raises(TimeoutError):
            await upstream.closed(0, within_s=0.01)


def test_common_answers():
    """Bytes as they are on the wire."""
    (sent,) = json_answer(429, {"a": 1}, {"Retry-After": 7})
    assert (
        b"HTTP/1.1 429 Scripted\r\nContent-Length: 8\r\nContent-Type: application/json\r\nRetry-After: 7\r\n\r\n"
        b'{"a": 1}'
    ) == sent.data
    _, event, end = sse(["[DONE]"])
    assert (chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n") == (event.data, end.data)
