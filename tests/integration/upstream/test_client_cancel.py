"""A cancelled request closes the upstream's socket at once, in any phase, and leaves nothing behind.

The guarantee is 250 ms; loopback and a busy machine leave room for it. The peer measures when the FIN
or RST arrived.
"""

import asyncio
import random
import ssl
import time
from pathlib import Path

import pytest

from support.scripted_upstream import ScriptedUpstream, always
from support.transport_calls import BODY, streaming
from support.upstream_script import (
    AwaitClose,
    Pause,
    Repeat,
    Send,
    Stall,
    StopReading,
    chunk,
    head,
    json_response,
    sse,
    sse_head,
)
from support.waiting import eventually
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits
from togetherchat_server.upstream.pool import ConnectionPool

GUARANTEED_S = 0.25

BEFORE_HEADERS = (Stall(),)
IN_A_HEADER = (Send(b"HTTP/1.1 200 OK\r\nContent-"), Stall())
IN_A_BODY = (Send(head(200, {"Content-Length": 100}) + b"{"), Stall())
IN_A_STREAM = (Send(sse_head() + chunk(b"data: 1\n\n")), Stall())


async def cancel(task: "asyncio.Task[object]") -> float:
    """Cancel a task, check that it ends as cancelled, and return when it was cancelled."""
    cancelled_at = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return cancelled_at


async def read_to_end(client, key, request_id="r") -> None:
    async with streaming(client, key, request_id=request_id) as got:
        while await got.read():
            pass


@pytest.mark.parametrize(
    "script", [BEFORE_HEADERS, IN_A_HEADER, IN_A_BODY], ids=["before headers", "in a header", "in a body"]
)
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_cancel_of_a_unary_request(serve, key, certificate, script, over_tls):
    """Also over TLS, where a graceful close waits for a close_notify that a stalled peer never sends."""
    tls = {"tls": certificate.server_context(), "trust": certificate} if over_tls else {}
    async with serve(always(script), **tls) as (upstream, client):
        task = asyncio.ensure_future(client.send("POST", "x", key=key, request_id="r", body=BODY))
        await upstream.received()
        cancelled_at = await cancel(task)
        assert await upstream.closed(0) - cancelled_at < GUARANTEED_S


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_cancel_in_a_stream(serve, key, certificate, over_tls):
    """A cancel while waiting for the next event closes the connection."""
    tls = {"tls": certificate.server_context(), "trust": certificate} if over_tls else {}
    async with serve(always(IN_A_STREAM), **tls) as (upstream, client):
        task = asyncio.ensure_future(read_to_end(client, key))
        await upstream.until(lambda log: log.requests and log.requests[0].bytes_sent)
        cancelled_at = await cancel(task)
        assert await upstream.closed(0) - cancelled_at < GUARANTEED_S


async def test_leaving_a_stream_early(serve, key):
    """Leaving the context before the end of the stream closes the connection."""
    async with serve(always(IN_A_STREAM)) as (upstream, client):
        async with streaming(client, key) as got:
            await got.read()
        left_at = time.monotonic()
        assert await upstream.closed(0) - left_at < GUARANTEED_S


async def test_leaving_a_stream_with_an_exception(serve, key):
    """An exception in the context passes through unchanged, and the connection is closed."""
    async with serve(always(IN_A_STREAM)) as (upstream, client):
        with pytest.raises(LookupError):
            async with streaming(client, key):
                raise LookupError
        await upstream.closed(0, within_s=GUARANTEED_S)


DESCRIPTORS = Path("/proc/self/fd")


def sockets_open() -> set[str]:
    """The sockets of this process, by their inodes: those of earlier tests may be closed meanwhile."""
    return {str(link.readlink()) for link in DESCRIPTORS.iterdir() if link.is_socket()}


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts sockets in /proc")
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_cancel_towards_a_peer_that_does_not_read(serve, key, certificate, over_tls):
    """A graceful close would wait for the rest of the request to be read, and over TLS for a close_notify."""
    tls = {"tls": certificate.server_context(), "trust": certificate} if over_tls else {}
    async with serve(always(()), on_connect=(StopReading(), Stall()), **tls) as (upstream, client):
        before = sockets_open()
        task = asyncio.ensure_future(
            client.send("POST", "x", key=key, request_id="r", body=bytes(30 * 2**20))
        )
        await upstream.accepted()
        await asyncio.sleep(0.1)  # until the kernel's buffers are full
        assert 2 == len(sockets_open() - before)
        await cancel(task)
        await eventually(lambda: 1 == len(sockets_open() - before), within_s=GUARANTEED_S)


async def test_cancel_in_a_tls_handshake(serve, key):
    """A cancel during a handshake without a response closes the connection."""
    async with serve(always(()), on_connect=(AwaitClose(),), scheme="https") as (upstream, client):
        task = asyncio.ensure_future(client.send("GET", "x", key=key, request_id="r"))
        await upstream.until(lambda log: log.connections and log.connections[0].bytes_received)
        cancelled_at = await cancel(task)
        assert await upstream.closed(0) - cancelled_at < GUARANTEED_S


async def test_cancel_during_name_resolution(key):
    """The lookup itself cannot be stopped, but the call ends and its slot in the pool is free."""
    resolving = asyncio.Event()

    async def never(_host, _port):
        resolving.set()
        await asyncio.Event().wait()

    pool = ConnectionPool(UpstreamLimits(), tls=ssl.create_default_context, resolve=never)
    client = UpstreamClient(
        pool, base_url="http://name.example/v1", limits=UpstreamLimits(), user_agent="t/1"
    )
    task = asyncio.ensure_future(client.send("GET", "x", key=key, request_id="r"))
    await resolving.wait()
    cancelled_at = await cancel(task)
    assert time.monotonic() - cancelled_at < GUARANTEED_S
    assert 0 == pool.in_flight
    await client.aclose()


async def test_closing_the_client_fails_requests_in_flight(serve, key):
    """At the end of a drain requests in flight fail, and the sockets are closed."""
    async with serve(always(BEFORE_HEADERS)) as (upstream, client):
        task = asyncio.ensure_future(client.send("GET", "x", key=key, request_id="r"))
        await upstream.received()
        await client.aclose()
        await upstream.closed(0, within_s=GUARANTEED_S)
        with pytest.raises(ServiceError):
            await task


async def test_a_stream_that_is_not_read_blocks_its_sender(serve, key):
    """The sender is blocked after the kernels' buffers and two read buffers; reading then continues."""
    piece, times = chunk(b"x" * 65_536), 1024
    limits = UpstreamLimits(max_stream_bytes=times * len(piece))
    script = (Send(sse_head()), Repeat(piece, times), Send(chunk(b"")))
    async with (
        serve(always(script), limits=limits) as (upstream, client),
        streaming(client, key) as got,
    ):
        (request,) = upstream.request_log.requests
        while (sent := request.bytes_sent) == 0 or await grows(request):
            pass
        assert sent < times * len(piece) / 4
        read = 0
        while data := await got.read():
            assert len(data) <= 2**20
            read += len(data)
        assert times * 65_536 == read


async def grows(request) -> bool:
    before = request.bytes_sent
    await asyncio.sleep(0.1)
    return request.bytes_sent > before


CHURN = (
    json_response(200, {"id": "1"}),
    sse(["1", "2", "[DONE]"]),
    (Send(sse_head() + chunk(b"data: 1\n\n")), Pause(0.002), Send(chunk(b"data: 2\n\n") + chunk(b""))),
    (Pause(0.003), *json_response(200, {"id": "2"})),
    BEFORE_HEADERS,
    IN_A_STREAM,
)


async def churn(client, key, rng, requests: int) -> None:
    """Send requests one after the other, each cancelled after some iterations of the event loop.

    Iterations rather than seconds: on a busy machine, too, some are cancelled and some complete.
    """
    for _ in range(requests):
        script = str(rng.randrange(len(CHURN)))
        task = asyncio.ensure_future(read_to_end(client, key, script))
        for _ in range(int(rng.expovariate(1 / 60))):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_churn_leaves_nothing_behind(key, certificate, over_tls):
    """After hundreds of cancels in any phase no slot is taken, no connection is active, and the next request succeeds."""
    rng = random.Random(20260926)
    context = ssl.create_default_context(cafile=certificate.certificate_file)
    pool = ConnectionPool(UpstreamLimits(), tls=lambda: context)
    script = lambda request: CHURN[int(request.headers["x-request-id"])]  # noqa: E731
    async with ScriptedUpstream(script, tls=certificate.server_context() if over_tls else None) as upstream:
        client = UpstreamClient(pool, base_url=upstream.base_url, limits=UpstreamLimits(), user_agent="t/1")
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(churn(client, key, rng, 25))
        await upstream.until(lambda log: 0 == pool.connections()[0])
        active, idle = pool.connections()
        assert (0, 0) == (pool.in_flight, active)
        await upstream.until(lambda log: len(log.still_open) == idle)
        assert b'{"id": "1"}' == (await client.send("GET", "x", key=key, request_id="0")).body
        await client.aclose()
        await upstream.until(lambda log: not log.still_open)
        assert len(upstream.request_log.requests) > 50
