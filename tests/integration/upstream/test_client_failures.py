"""What breaks once a request is on its way, until the end of its answer, and what that is called."""

import asyncio

import pytest

from support.scripted_upstream import always, in_turn
from support.transport_calls import BODY, failure_of_send, failure_of_stream
from support.upstream_script import (
    AwaitClose,
    Fin,
    Pause,
    Repeat,
    Reset,
    Send,
    Stall,
    answer,
    chunk,
    head,
    json_answer,
    sse_head,
)
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream.client import UpstreamLimits

OK = json_answer(200, {"id": "1"})


@pytest.mark.parametrize("end", [Fin(), Reset()])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_broken_before_the_answer_on_a_fresh_connection(serve, key, end, method):
    """It may have been worked on: it is not sent again, whatever its method."""
    async with serve(in_turn((end,), OK)) as (upstream, transport):
        assert Reason.UPSTREAM_RESET == (await failure_of_send(transport, key, method)).reason
        assert 1 == len(upstream.ledger.requests)


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
    ],
)
async def test_not_an_answer_in_http(serve, key, garbage):
    """Also lengths that contradict each other, which answers of two callers could hide behind."""
    async with serve(always((Send(garbage), AwaitClose()))) as (upstream, transport):
        assert Reason.UPSTREAM_MALFORMED_RESPONSE == (await failure_of_send(transport, key)).reason
        await upstream.closed(0, within_s=0.25)


@pytest.mark.parametrize(
    "flood",
    [
        (Send(head(200, {f"x-{number}": "1" for number in range(5000)})),),
        (Send(head(200, {"x": "y" * 300_000})),),
        (Send(b"HTTP/1.1 200 " + b"O" * 300_000 + b"\r\n\r\n"),),
        (Send(b"HTTP/1.1 200 OK\r\nx: "), Repeat(b"y" * 65536, 10_000)),
    ],
    ids=["5000 headers", "one of 300 KB", "long reason", "one without end"],
)
async def test_header_flood(serve, key, flood):
    """Bounded, however it is done."""
    async with serve(always((*flood, AwaitClose()))) as (upstream, transport):
        assert Reason.UPSTREAM_MALFORMED_RESPONSE == (await failure_of_send(transport, key)).reason
        await upstream.closed(0, within_s=0.25)


@pytest.mark.parametrize("end", [Fin(), Reset()])
async def test_a_whole_answer_cut_short(serve, key, end):
    """Less than its Content-Length, over a reused connection too: what was begun is not sent again."""
    cut = (Send(head(200, {"Content-Length": 100}) + b'{"id"'), end)
    async with serve(in_turn(OK, cut, OK)) as (upstream, transport):
        await transport.send("POST", "x", key=key, request_id="r", body=BODY)
        assert Reason.UPSTREAM_TRUNCATED == (await failure_of_send(transport, key)).reason
        assert 2 == len(upstream.ledger.requests)


@pytest.mark.parametrize(
    "rest",
    [(Fin(),), (Reset(),), (Send(b"xyz\r\n"), AwaitClose()), (Send(b"5\r\nab"), Fin())],
    ids=["FIN", "RST", "no chunk", "FIN in a chunk"],
)
async def test_a_stream_cut_short(serve, key, rest):
    """What had arrived is given out first where it was read before; then the failure."""
    seen = asyncio.Event()
    script = (Send(sse_head() + chunk(b"data: 1\n\n")), Pause(seen), *rest)
    async with serve(always(script)) as (_upstream, transport):
        async with transport.stream("x", key=key, request_id="r", body=BODY) as got:
            assert b"data: 1\n\n" == await got.read()
            seen.set()
            with pytest.raises(ServiceError) as caught:
                await got.read_all()
        assert Reason.UPSTREAM_TRUNCATED == caught.value.reason


async def test_a_reset_is_no_end_where_the_end_of_the_connection_is(serve, key):
    """A body without length and chunks ends with a FIN; an RST is not that."""
    opening = Send(head(200, {"Connection": "close"}) + b"data: 1\n\n")
    async with serve(in_turn((opening, Fin()), (opening, Reset()))) as (_upstream, transport):
        whole = await transport.send("POST", "x", key=key, request_id="r", body=BODY)
        assert b"data: 1\n\n" == whole.body
        assert Reason.UPSTREAM_TRUNCATED == (await failure_of_send(transport, key)).reason


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "GZIP", "identity, gzip", "unheard-of"])
async def test_a_coded_answer_is_refused_unread(serve, key, coding):
    """A kilobyte of it can stand for a gigabyte."""
    coded = answer(200, b"\x1f\x8b" + bytes(1000), {"Content-Encoding": coding})
    async with serve(always(coded)) as (_upstream, transport):
        assert Reason.UPSTREAM_MALFORMED_RESPONSE == (await failure_of_send(transport, key)).reason
        assert (b"", Reason.UPSTREAM_MALFORMED_RESPONSE) == (
            (got := await failure_of_stream(transport, key))[0],
            got[1].reason,
        )


async def test_identity_is_no_coding(serve, key):
    """It may be said aloud."""
    plain = answer(200, b"{}", {"Content-Encoding": "identity"})
    async with serve(always(plain)) as (_upstream, transport):
        assert b"{}" == (await transport.send("POST", "x", key=key, request_id="r", body=BODY)).body


async def test_a_whole_answer_too_large(serve, key):
    """Stopped at the bound, and the sender with it."""
    endless = (Send(head(200, {"Content-Length": 10**12})), Repeat(bytes(65536), 10**6))
    async with serve(always(endless), limits=UpstreamLimits(max_response_bytes=2**20)) as (
        upstream,
        transport,
    ):
        assert Reason.UPSTREAM_TOO_LARGE == (await failure_of_send(transport, key)).reason
        await upstream.closed(0, within_s=0.25)


async def test_a_stream_too_large(serve, key):
    """Nothing beyond the bound is given out."""
    endless = (Send(sse_head()), Repeat(chunk(b": \n" * 20_000), 10**6))
    async with serve(always(endless), limits=UpstreamLimits(max_stream_bytes=2**20)) as (
        upstream,
        transport,
    ):
        read, failed = await failure_of_stream(transport, key)
        await upstream.closed(0, within_s=0.25)
    assert Reason.UPSTREAM_TOO_LARGE == failed.reason
    assert 0 < len(read) <= 2**20


@pytest.mark.parametrize(
    "script",
    [
        (Send(head(503, {"Content-Length": 10**9, "Retry-After": 7})), Repeat(b"no" * 30_000, 10**6)),
        (Send(head(503, {"Content-Length": 100, "Retry-After": 7}) + b"no"), Fin()),
    ],
    ids=["too large", "cut short"],
)
async def test_a_failed_status_outlives_its_body(serve, key, script):
    """What is known of the failure, its status and headers, is worth more than its text."""
    async with serve(always(script)) as (_upstream, transport):
        got = await transport.send("POST", "x", key=key, request_id="r", body=BODY)
    assert (503, "7", b"no") == (got.status, got.headers["retry-after"], got.body[:2])
    assert len(got.body) <= UpstreamLimits().max_error_body_bytes


def echo(request) -> bytes:
    return f"{request.headers['authorization']} {request.body.decode()}".encode()


@pytest.mark.parametrize(
    "script",
    [
        lambda _: (Reset(),),
        lambda _: (Send(head(200, {"Content-Encoding": "gzip"})), Stall()),
        lambda _: (Send(head(200, {f"x-{number}": "1" for number in range(500)})), Stall()),
        lambda request: (Send(echo(request) + b"\r\n\r\n"), Stall()),
        lambda request: (Send(b"HTTP/1.1 200 OK\r\n" + echo(request) + b"\r\n\r\n"), Stall()),
        lambda request: (Send(b"HTTP/1.1 200 OK\r\nx: " + echo(request)), Fin()),
        lambda request: (Send(head(200, {"Content-Length": 1000}) + echo(request)), Fin()),
        lambda request: (Send(sse_head() + chunk(echo(request)) + echo(request)), Stall()),
    ],
    ids=["RST", "gzip", "flood", "no HTTP", "no header", "half a head", "half a body", "no chunk"],
)
async def test_no_failure_tells_the_key_or_the_prompt(serve, key, script):
    """Neither in its message nor in anything printed of what it came from, though the upstream says both."""
    async with serve(script) as (_upstream, transport):
        failed = await failure_of_send(transport, key)
    told, beneath = [], failed
    while beneath is not None:
        told += [str(beneath), repr(beneath)]
        beneath = beneath.__cause__ or beneath.__context__
    assert [] == [text for text in told if key.reveal() in text or "secret prompt" in text]
    assert "127.0.0.1" not in failed.message
