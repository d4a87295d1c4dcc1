"""Failures between sending a request and the end of its response, and their reasons."""

import asyncio

import pytest

from support.scripted_upstream import always, in_turn
from support.transport_calls import BODY, failure_of_send, failure_of_stream, streaming
from support.upstream_script import (
    AwaitClose,
    Fin,
    Pause,
    Repeat,
    Reset,
    Send,
    Stall,
    chunk,
    head,
    http_response,
    json_response,
    sse_head,
)
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream.client import UpstreamLimits

OK = json_response(200, {"id": "1"})


@pytest.mark.parametrize("end", [Fin(), Reset()])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_broken_before_the_response_on_a_new_connection(serve, key, end, method):
    """The upstream may have processed the request, so it is not sent again, whatever its method."""
    async with serve(in_turn((end,), OK)) as (upstream, client):
        assert Reason.UPSTREAM_RESET == (await failure_of_send(client, key, method)).reason
        assert 1 == len(upstream.request_log.requests)


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
async def test_a_response_that_is_not_http(serve, key, garbage):
    """Contradicting lengths are rejected too: they could hide the response of another caller."""
    async with serve(always((Send(garbage), AwaitClose()))) as (upstream, client):
        assert Reason.UPSTREAM_MALFORMED_RESPONSE == (await failure_of_send(client, key)).reason
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
    """Response heads are bounded in bytes and in headers."""
    async with serve(always((*flood, AwaitClose()))) as (upstream, client):
        assert Reason.UPSTREAM_MALFORMED_RESPONSE == (await failure_of_send(client, key)).reason
        await upstream.closed(0, within_s=0.25)


@pytest.mark.parametrize("end", [Fin(), Reset()])
async def test_a_truncated_unary_response(serve, key, end):
    """A body shorter than its Content-Length fails without a retry, on a reused connection too."""
    cut = (Send(head(200, {"Content-Length": 100}) + b'{"id"'), end)
    async with serve(in_turn(OK, cut, OK)) as (upstream, client):
        await client.send("POST", "x", key=key, request_id="r", body=BODY)
        assert Reason.UPSTREAM_TRUNCATED == (await failure_of_send(client, key)).reason
        assert 2 == len(upstream.request_log.requests)


@pytest.mark.parametrize(
    "rest",
    [(Fin(),), (Reset(),), (Send(b"xyz\r\n"), AwaitClose()), (Send(b"5\r\nab"), Fin())],
    ids=["FIN", "RST", "no chunk", "FIN in a chunk"],
)
async def test_a_truncated_stream(serve, key, rest):
    """Bytes read before the failure are returned; the next read fails."""
    read = asyncio.Event()
    script = (Send(sse_head() + chunk(b"data: 1\n\n")), Pause(read), *rest)
    async with serve(always(script)) as (_upstream, client):
        async with streaming(client, key) as got:
            assert b"data: 1\n\n" == await got.read()
            read.set()
            with pytest.raises(ServiceError) as caught:
                await got.read_all()
        assert Reason.UPSTREAM_TRUNCATED == caught.value.reason


async def test_a_reset_does_not_end_a_body_without_length(serve, key):
    """A body without length and chunks ends with a FIN; an RST truncates it."""
    opening = Send(head(200, {"Connection": "close"}) + b"data: 1\n\n")
    async with serve(in_turn((opening, Fin()), (opening, Reset()))) as (_upstream, client):
        whole = await client.send("POST", "x", key=key, request_id="r", body=BODY)
        assert b"data: 1\n\n" == whole.body
        assert Reason.UPSTREAM_TRUNCATED == (await failure_of_send(client, key)).reason


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "identity, gzip", "unheard-of"])
async def test_a_compressed_response_is_rejected_unread(serve, key, encoding):
    """Only gzip, which engines and proxies use although it was not requested, is unpacked."""
    compressed = http_response(200, b"\x1f\x8b" + bytes(1000), {"Content-Encoding": encoding})
    async with serve(always(compressed)) as (_upstream, client):
        assert Reason.UPSTREAM_MALFORMED_RESPONSE == (await failure_of_send(client, key)).reason
        assert (b"", Reason.UPSTREAM_MALFORMED_RESPONSE) == (
            (got := await failure_of_stream(client, key))[0],
            got[1].reason,
        )


async def test_identity_is_accepted(serve, key):
    """`Content-Encoding: identity` is accepted."""
    plain = http_response(200, b"{}", {"Content-Encoding": "identity"})
    async with serve(always(plain)) as (_upstream, client):
        assert b"{}" == (await client.send("POST", "x", key=key, request_id="r", body=BODY)).body


async def test_a_unary_response_too_large(serve, key):
    """Reading stops at the bound, and the connection is closed."""
    endless = (Send(head(200, {"Content-Length": 10**12})), Repeat(bytes(65536), 10**6))
    async with serve(always(endless), limits=UpstreamLimits(max_response_bytes=2**20)) as (
        upstream,
        client,
    ):
        assert Reason.UPSTREAM_TOO_LARGE == (await failure_of_send(client, key)).reason
        await upstream.closed(0, within_s=0.25)


async def test_a_stream_too_large(serve, key):
    """Nothing beyond the bound is returned."""
    endless = (Send(sse_head()), Repeat(chunk(b": \n" * 20_000), 10**6))
    async with serve(always(endless), limits=UpstreamLimits(max_stream_bytes=2**20)) as (
        upstream,
        client,
    ):
        read, failed = await failure_of_stream(client, key)
        await upstream.closed(0, within_s=0.25)
    assert Reason.UPSTREAM_TOO_LARGE == failed.reason
    assert 0 < len(read) <= 2**20


@pytest.mark.parametrize(
    "script",
    [
        (Send(head(503, {"Content-Length": 10**9, "Retry-After": 7})), Repeat(b"no" * 30_000, 10**6)),
        (Send(head(503, {"Content-Length": 100, "Retry-After": 7}) + b"no"), Fin()),
    ],
    ids=["too large", "truncated"],
)
async def test_an_error_status_is_kept_without_its_body(serve, key, script):
    """The status and headers of an error are returned even if its body is too large or truncated."""
    async with serve(always(script)) as (_upstream, client):
        got = await client.send("POST", "x", key=key, request_id="r", body=BODY)
    assert (503, "7", b"no") == (got.status, got.headers["retry-after"], got.body[:2])
    assert len(got.body) <= UpstreamLimits().max_error_body_bytes


def echo(request) -> bytes:
    return f"{request.headers['authorization']} {request.body.decode()}".encode()


@pytest.mark.parametrize(
    "script",
    [
        lambda _: (Reset(),),
        lambda _: (Send(head(200, {"Content-Encoding": "br"})), Stall()),
        lambda _: (Send(head(200, {f"x-{number}": "1" for number in range(500)})), Stall()),
        lambda request: (Send(echo(request) + b"\r\n\r\n"), Stall()),
        lambda request: (Send(b"HTTP/1.1 200 OK\r\n" + echo(request) + b"\r\n\r\n"), Stall()),
        lambda request: (Send(b"HTTP/1.1 200 OK\r\nx: " + echo(request)), Fin()),
        lambda request: (Send(head(200, {"Content-Length": 1000}) + echo(request)), Fin()),
        lambda request: (Send(sse_head() + chunk(echo(request)) + echo(request)), Stall()),
    ],
    ids=[
        "RST",
        "compressed",
        "flood",
        "not HTTP",
        "not a header",
        "half a head",
        "half a body",
        "not a chunk",
    ],
)
async def test_no_failure_contains_the_key_or_the_prompt(serve, key, script):
    """Neither the error nor its causes contain what the upstream echoes: the key and the prompt."""
    async with serve(script) as (_upstream, client):
        failed = await failure_of_send(client, key)
    printed, cause = [], failed
    while cause is not None:
        printed += [str(cause), repr(cause)]
        cause = cause.__cause__ or cause.__context__
    assert [] == [text for text in printed if key.reveal() in text or "secret prompt" in text]
    assert "127.0.0.1" not in failed.message
