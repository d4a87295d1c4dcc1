"""Errors and the bounds on responses, without a socket."""

import asyncio
import inspect
import re
import socket
import ssl
from collections import Counter

import httpx
import pytest

from support.transport_calls import failure_of_send, failure_of_stream, streaming
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream import client, http1_exchange, pool, transport_errors
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits

KEY = Secret("key-of-a-test-0123456789")
TRUNCATED = transport_errors.error(Reason.UPSTREAM_TRUNCATED)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def client_over(handler, **limits: int) -> UpstreamClient:
    return UpstreamClient(
        httpx.MockTransport(handler),
        base_url="http://upstream.example/v1/",
        limits=UpstreamLimits(**limits),
        user_agent="upstream-tests/1",
    )


def raising(failure: BaseException) -> UpstreamClient:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise failure

    return client_over(handler)


class Body(httpx.AsyncByteStream):
    """A body in pieces; an exception among them is raised. Records whether it was closed."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self):
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


async def test_a_failure_before_the_response():
    """The error of the transport passes unchanged."""
    failure = transport_errors.error(Reason.UPSTREAM_RESET)
    assert failure is await failure_of_send(raising(failure), KEY)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), Reason.UPSTREAM_DNS_FAILED),
        (ssl.SSLCertVerificationError(1, "unable to get local issuer"), Reason.UPSTREAM_TLS_FAILED),
        (ssl.SSLError(1, "wrong version number"), Reason.UPSTREAM_TLS_FAILED),
        (ConnectionRefusedError(111, "refused"), Reason.UPSTREAM_CONNECT_FAILED),
        (OSError(24, "Too many open files"), Reason.UPSTREAM_CONNECT_FAILED),
        (None, Reason.UPSTREAM_CONNECT_FAILED),
    ],
)
def test_the_cause_of_a_failure_to_connect_decides(cause, reason):
    """The message is the reason's own, and does not repeat the cause."""
    failed = transport_errors.before_response(cause, Reason.UPSTREAM_CONNECT_FAILED)
    assert (reason, transport_errors.MESSAGES[reason]) == (failed.reason, failed.message)


async def test_a_failure_in_the_response():
    """Bytes before the failure are returned, the error passes unchanged, and the response is closed."""
    body = Body(b"data: 1\n\n", TRUNCATED)
    read, failed = await failure_of_stream(client_over(lambda _: httpx.Response(200, stream=body)), KEY)
    assert (b"data: 1\n\n", TRUNCATED) == (read, failed)
    assert body.closed


def test_every_reason_that_is_raised_has_a_message():
    """No message is missing, and none belongs to a reason that is never raised."""
    texts = [inspect.getsource(module) for module in (client, http1_exchange, pool, transport_errors)]
    named = Counter(re.findall(r"\bReason\.([A-Z_]+)", "".join(texts)))
    assert set(transport_errors.MESSAGES) == {Reason[name] for name in named}
    assert [] == [name for name, times in named.items() if times < 2]


async def test_a_cancel_passes_through():
    """A cancel is not turned into a ServiceError."""
    with pytest.raises(asyncio.CancelledError):
        await raising(asyncio.CancelledError()).send("GET", "models", key=KEY, request_id="r")


async def test_the_path_is_below_the_base_url():
    """Paths are relative to the base URL, with or without a slash at its end."""
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200)

    await client_over(handler).send("GET", "models", key=None, request_id="r")
    assert ["http://upstream.example/v1/models"] == seen


@pytest.mark.parametrize("trace", ["", "x", TRACE.upper(), TRACE + "\r\nx: 1", TRACE + "-more"])
async def test_an_invalid_traceparent_is_left_out(trace):
    """Callers send it, and tracing must not fail a call."""
    seen: list[httpx.Headers] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200)

    await client_over(handler).send("GET", "models", key=None, request_id="r", traceparent=trace)
    assert "traceparent" not in seen[0]


@pytest.mark.parametrize("encoding", ["br", "deflate, identity", "x"])
async def test_a_compressed_response_is_closed_unread(encoding):
    """A compressed response is rejected before its first byte is read."""
    body = Body(AssertionError("read"))
    response = httpx.Response(200, headers={"content-encoding": encoding}, stream=body)
    assert (
        Reason.UPSTREAM_MALFORMED_RESPONSE
        == (await failure_of_send(client_over(lambda _: response), KEY)).reason
    )
    assert body.closed


@pytest.mark.parametrize(("bytes_max", "fits"), [(9, False), (10, True)])
async def test_the_bound_of_a_response_is_exact(bytes_max, fits):
    """A body exactly as long as the bound is accepted."""
    body = Body(b"01234", b"56789")
    client = client_over(lambda _: httpx.Response(200, stream=body), max_response_bytes=bytes_max)
    if fits:
        assert b"0123456789" == (await client.send("GET", "x", key=KEY, request_id="r")).body
    else:
        assert Reason.UPSTREAM_TOO_LARGE == (await failure_of_send(client, KEY)).reason


@pytest.mark.parametrize(("bytes_max", "read"), [(9, b"01234"), (10, b"0123456789")])
async def test_the_bound_of_a_stream_is_exact(bytes_max, read):
    """The bytes that exceed the bound are not returned."""
    body = Body(b"01234", b"56789", TRUNCATED)
    client = client_over(lambda _: httpx.Response(200, stream=body), max_stream_bytes=bytes_max)
    assert read == (await failure_of_stream(client, KEY))[0]


@pytest.mark.parametrize("body", [Body(b"0123", b"4567"), Body(b"01234", TRUNCATED)])
async def test_the_body_of_an_error_is_cut_and_its_status_kept(body):
    """The status and headers of an error matter more than its text."""
    response = httpx.Response(503, headers={"Retry-After": "7"}, stream=body)
    got = await client_over(lambda _: response, max_error_body_bytes=5).send(
        "GET", "x", key=KEY, request_id="r"
    )
    assert (503, "7", b"01234") == (got.status, got.headers["retry-after"], got.body)


async def test_a_truncated_successful_response_is_a_failure():
    """A part of a body is never returned as the complete one."""
    body = Body(b"01234", TRUNCATED)
    failed = await failure_of_send(client_over(lambda _: httpx.Response(200, stream=body)), KEY)
    assert Reason.UPSTREAM_TRUNCATED == failed.reason


async def test_headers_outside_ascii_are_read_as_latin_1():
    """No byte in a header fails the response."""
    response = httpx.Response(200, headers=[(b"X-City", b"M\xfcnchen")])
    got = await client_over(lambda _: response).send("GET", "x", key=KEY, request_id="r")
    assert "München" == got.headers["x-city"]


@pytest.mark.parametrize("body", [Body(b"0"), Body(b"0", b"1", TRUNCATED), Body(b"0", b"1" * 99)])
async def test_finish_reads_to_the_end_and_never_fails(body):
    """`finish` only makes the connection reusable: the completion was already complete."""
    client = client_over(lambda _: httpx.Response(200, stream=body), max_stream_bytes=50)
    async with streaming(client, KEY, body=b"{}") as got:
        await got.read()
        await got.finish(within_s=5.0)
    assert body.closed
