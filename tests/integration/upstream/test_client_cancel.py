"""Whoever leaves, leaves nothing behind: the upstream's socket is closed at once, whatever the phase.

The bound of 250 ms is the promise; loopback and a busy machine leave room for it. What is
measured is the peer's view: when the FIN or RST arrived there.
"""

import asyncio
import random
import ssl
import time
from pathlib import Path

import pytest

from support.scripted_upstream import ScriptedUpstream, always
from support.transport_calls import BODY
from support.upstream_script import (
    AwaitClose,
    Pause,
    Repeat,
    Send,
    Stall,
    StopReading,
    chunk,
    head,
    json_answer,
    sse,
    sse_head,
)
from support.waiting import eventually
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits
from togetherchat_server.upstream.pool import ConnectionPool

PROMISED_S = 0.25

BEFORE_HEADERS = (Stall(),)
IN_A_HEADER = (Send(b"HTTP/1.1 200 OK\r\nContent-"), Stall())
IN_A_BODY = (Send(head(200, {"Content-Length": 100}) + b"{"), Stall())
IN_A_STREAM = (Send(sse_head() + chunk(b"data: 1\n\n")), Stall())


async def cancel(task: "asyncio.Task[object]") -> float:
    """Cancel, see it end as cancelled, and say when it was asked to."""
    asked_at = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return asked_at


async def read_to_the_end(transport, key, request_id="r") -> None:
    async with transport.stream("x", key=key, request_id=request_id, body=BODY) as got:
        while await got.read():
            pass


@pytest.mark.parametrize(
    "script", [BEFORE_HEADERS, IN_A_HEADER, IN_A_BODY], ids=["before headers", "in a header", "in a body"]
)
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_cancel_of_a_whole_answer(serve, key, certificate, script, over_tls):
    """Also over TLS, where closing politely waits for the peer's goodbye, which a stalled peer never says."""
    tls = {"tls": certificate.server_context(), "trust": certificate} if over_tls else {}
    async with serve(always(script), **tls) as (upstream, transport):
        task = asyncio.ensure_future(transport.send("POST", "x", key=key, request_id="r", body=BODY))
        await upstream.asked()
        asked_at = await cancel(task)
        assert await upstream.closed(0) - asked_at < PROMISED_S


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_cancel_in_a_stream(serve, key, certificate, over_tls):
    """After the first event, while waiting for the next."""
    tls = {"tls": certificate.server_context(), "trust": certificate} if over_tls else {}
    async with serve(always(IN_A_STREAM), **tls) as (upstream, transport):
        task = asyncio.ensure_future(read_to_the_end(transport, key))
        await upstream.until(lambda ledger: ledger.requests and ledger.requests[0].bytes_sent)
        asked_at = await cancel(task)
        assert await upstream.closed(0) - asked_at < PROMISED_S


async def test_leaving_a_stream_early(serve, key):
    """No cancel, just enough of it."""
    async with serve(always(IN_A_STREAM)) as (upstream, transport):
        async with transport.stream("x", key=key, request_id="r", body=BODY) as got:
            await got.read()
        left_at = time.monotonic()
        assert await upstream.closed(0) - left_at < PROMISED_S


async def test_leaving_a_stream_with_an_exception(serve, key):
    """What the caller of the transport raises comes out as it is."""
    async with serve(always(IN_A_STREAM)) as (upstream, transport):
        with pytest.raises(LookupError):
            async with transport.stream("x", key=key, request_id="r", body=BODY):
                raise LookupError
        await upstream.closed(0, within_s=PROMISED_S)


DESCRIPTORS = Path("/proc/self/fd")


def sockets_open() -> set[str]:
    """The sockets of this process, by their inodes: those of earlier tests may be closed meanwhile."""
    return {str(link.readlink()) for link in DESCRIPTORS.iterdir() if link.is_socket()}


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts sockets as Linux shows them")
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_cancel_towards_a_peer_that_reads_nothing(serve, key, certificate, over_tls):
    """A polite close waits: for the rest of the request to be taken, and over TLS for a goodbye."""
    tls = {"tls": certificate.server_context(), "trust": certificate} if over_tls else {}
    async with serve(always(()), on_connect=(StopReading(), Stall()), **tls) as (upstream, transport):
        before = sockets_open()
        task = asyncio.ensure_future(
            transport.send("POST", "x", key=key, request_id="r", body=bytes(30 * 2**20))
        )
        await upstream.accepted()
        await asyncio.sleep(0.1)  # for the buffers of the kernel to fill
        assert 2 == len(sockets_open() - before)
        await cancel(task)
        await eventually(lambda: 1 == len(sockets_open() - before), within_s=PROMISED_S)


async def test_cancel_in_a_tls_handshake(serve, key):
    """A peer that accepted, and says nothing."""
    async with serve(always(()), on_connect=(AwaitClose(),), scheme="https") as (upstream, transport):
        task = asyncio.ensure_future(transport.send("GET", "x", key=key, request_id="r"))
        await upstream.until(lambda ledger: ledger.connections and ledger.connections[0].bytes_received)
        asked_at = await cancel(task)
        assert await upstream.closed(0) - asked_at < PROMISED_S


async def test_cancel_in_a_look_up_of_a_name(key):
    """The look-up itself cannot be stopped; the call is over all the same, and so is its place."""
    asked = asyncio.Event()

    async def never(_host, _port):
        asked.set()
        await asyncio.Event().wait()

    engine = ConnectionPool(UpstreamLimits(), tls=ssl.create_default_context(), resolve=never)
    transport = UpstreamClient(
        engine, base_url="http://name.example/v1", limits=UpstreamLimits(), user_agent="t/1"
    )
    task = asyncio.ensure_future(transport.send("GET", "x", key=key, request_id="r"))
    await asked.wait()
    asked_at = await cancel(task)
    assert time.monotonic() - asked_at < PROMISED_S
    assert 0 == engine.in_flight
    await transport.aclose()


async def test_closing_the_transport_ends_what_is_in_flight(serve, key):
    """At the end of a drain: whoever still waits gets a failure, and the sockets are closed."""
    async with serve(always(BEFORE_HEADERS)) as (upstream, transport):
        task = asyncio.ensure_future(transport.send("GET", "x", key=key, request_id="r"))
        await upstream.asked()
        await transport.aclose()
        await upstream.closed(0, within_s=PROMISED_S)
        with pytest.raises(ServiceError):
            await task


async def test_a_stream_that_nobody_reads_stops_its_sender(serve, key):
    """Far below what is offered: what the kernels hold, and two read buffers of ours. Reading goes on."""
    piece, times = chunk(b"x" * 65_536), 1024
    limits = UpstreamLimits(max_stream_bytes=times * len(piece))
    script = (Send(sse_head()), Repeat(piece, times), Send(chunk(b"")))
    async with (
        serve(always(script), limits=limits) as (upstream, transport),
        transport.stream("x", key=key, request_id="r", body=BODY) as got,
    ):
        (request,) = upstream.ledger.requests
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
    json_answer(200, {"id": "1"}),
    sse(["1", "2", "[DONE]"]),
    (Send(sse_head() + chunk(b"data: 1\n\n")), Pause(0.002), Send(chunk(b"data: 2\n\n") + chunk(b""))),
    (Pause(0.003), *json_answer(200, {"id": "2"})),
    BEFORE_HEADERS,
    IN_A_STREAM,
)


async def churn(transport, key, rng, requests: int) -> None:
    """Requests, one after the other, for one of the answers, each left after some turns of the loop.

    Turns and not seconds: on a busy machine, too, some are left early and some are served.
    """
    for _ in range(requests):
        which = str(rng.randrange(len(CHURN)))
        asking = asyncio.ensure_future(read_to_the_end(transport, key, which))
        for _ in range(int(rng.expovariate(1 / 60))):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_churn_leaves_nothing_behind(key, certificate, over_tls):
    """Hundreds of requests left anywhere: no place taken, no connection open, and the next is served."""
    rng = random.Random(20260926)
    engine = ConnectionPool(
        UpstreamLimits(), tls=ssl.create_default_context(cafile=certificate.certificate_file)
    )
    script = lambda request: CHURN[int(request.headers["x-request-id"])]  # noqa: E731
    async with ScriptedUpstream(script, tls=certificate.server_context() if over_tls else None) as upstream:
        transport = UpstreamClient(
            engine, base_url=upstream.base_url, limits=UpstreamLimits(), user_agent="t/1"
        )
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(churn(transport, key, rng, 25))
        await upstream.until(lambda ledger: 0 == engine.connections()[0])
        leased, kept = engine.connections()
        assert (0, 0) == (engine.in_flight, leased)
        await upstream.until(lambda ledger: len(ledger.still_open) == kept)
        assert b'{"id": "1"}' == (await transport.send("GET", "x", key=key, request_id="0")).body
        await transport.aclose()
        await upstream.until(lambda ledger: not ledger.still_open)
        assert len(upstream.ledger.requests) > 50
