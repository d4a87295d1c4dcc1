"""Reads that are deferred: what arrives meanwhile stays in the kernel, and one read returns all of it."""

import asyncio
import socket
import time

import pytest

from support.scripted_upstream import always, in_turn
from support.transport_calls import streaming
from support.upstream_script import Fin, Pause, Repeat, Reset, Send, Stall, chunk, sse, sse_head
from support.waiting import eventually
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream import http1

GUARANTEED_S = 0.25
FIRST, SECOND, THIRD = b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"


@pytest.fixture(params=["http", "https", "http, public API", "https, public API"])
def options(request, monkeypatch):
    """Serve with and without TLS, whose transport would read ahead.

    Also with a transport that lacks the method of asyncio's that is not public.
    """
    if request.param.endswith("public API"):
        monkeypatch.setattr(http1, "READ_NOW", "missing")
    if not request.param.startswith("https"):
        return {}
    certificate = request.getfixturevalue("certificate")
    return {"tls": certificate.server_context(), "trust": certificate}


async def test_asyncio_has_the_method_that_is_not_public():
    """Without it, deferred reads work but take more CPU time."""
    ours, peers = socket.socketpair()
    with peers:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        assert callable(getattr(transport, http1.READ_NOW))
        transport.abort()
        await asyncio.sleep(0)  # the socket is closed in the next iteration


def stream_of(client, key):
    return streaming(client, key)


async def sent(upstream, data):
    """Wait until the upstream has sent its bytes, and what the kernel needs to deliver them."""
    await upstream.until(lambda log: log.requests[-1].bytes_sent >= len(data))
    await asyncio.sleep(0.05)


async def test_what_arrives_during_a_deferral_is_read_at_once(serve, key, options):
    """A read that was deferred returns nothing before `resume_read`, and then all that has arrived."""
    goes_on = asyncio.Event()
    pieces = (Send(chunk(SECOND)), Pause(0.05), Send(chunk(THIRD)), Stall())
    script = always((Send(sse_head() + chunk(FIRST)), Pause(goes_on), *pieces))
    async with serve(script, **options) as (upstream, client), stream_of(client, key) as got:
        assert FIRST == await got.read()
        assert got.defer_read()
        reading = asyncio.create_task(got.read())
        goes_on.set()
        await sent(upstream, sse_head() + chunk(FIRST) + chunk(SECOND) + chunk(THIRD))
        assert not reading.done()
        got.resume_read()
        assert SECOND + THIRD == await reading


async def test_bytes_that_were_read_before_a_deferral_wait_too(serve, key, options):
    """The first deferral of a stream also holds what had arrived since the last read."""
    script = always((Send(sse_head() + chunk(FIRST)), Pause(0.05), Send(chunk(SECOND)), Stall()))
    async with serve(script, **options) as (upstream, client), stream_of(client, key) as got:
        await got.read()
        await sent(upstream, sse_head() + chunk(FIRST) + chunk(SECOND))
        assert got.defer_read()
        reading = asyncio.create_task(got.read())
        await asyncio.sleep(0.05)
        assert not reading.done()
        got.resume_read()
        assert SECOND == await reading


async def test_deferrals_keep_every_byte(serve, key, options):
    """A large stream that is read with a deferral before each read arrives whole."""
    events = [f"event {number} " + "x" * 300 for number in range(2000)]
    async with serve(always(sse(events)), **options) as (_, client):
        received = bytearray()
        async with stream_of(client, key) as got:
            while data := await got.read():
                received += data
                if got.defer_read():
                    asyncio.get_running_loop().call_later(0.001, got.resume_read)

    assert "".join(f"data: {event}\n\n" for event in events).encode() == bytes(received)


async def test_a_stream_read_without_a_deferral_again_is_read_at_once(serve, key, options):
    """After a deferral, a read without one returns as soon as bytes arrive."""
    script = always((Send(sse_head()), *(Send(chunk(FIRST)) if even else Pause(0.02) for even in [1, 0] * 5)))
    async with serve(script, **options) as (_, client), stream_of(client, key) as got:
        received = await got.read()
        assert got.defer_read()
        got.resume_read()
        while len(received) < 5 * len(FIRST):
            received += await got.read()


async def test_a_stream_whose_end_was_read_is_not_deferred(serve, key, options):
    """The end of a response is never held back."""
    async with serve(always(sse(["1"])), **options) as (_, client), stream_of(client, key) as got:
        while await got.read():
            pass
        assert not got.defer_read()


@pytest.mark.parametrize("end", [Fin(), Reset()])
async def test_an_end_during_a_deferral_is_noticed_after_it(serve, key, options, end):
    """A connection that breaks during a deferral fails the read after `resume_read`."""
    goes_on = asyncio.Event()
    script = always((Send(sse_head() + chunk(FIRST)), Pause(goes_on), Send(chunk(SECOND)), end))
    async with serve(script, **options) as (_, client), stream_of(client, key) as got:
        await got.read()
        assert got.defer_read()
        goes_on.set()
        reading = asyncio.create_task(got.read_all())
        await asyncio.sleep(0.1)
        assert not reading.done()
        got.resume_read()
        with pytest.raises(ServiceError) as raised:
            await reading
        assert Reason.UPSTREAM_TRUNCATED is raised.value.reason


@pytest.mark.parametrize("rest", [(Stall(),), (Repeat(chunk(SECOND), 100_000),)], ids=["silent", "sending"])
async def test_a_cancel_during_a_deferral_closes_the_connection_at_once(serve, key, options, rest):
    """The upstream sees the close within 250 ms, and a late `resume_read` does nothing."""
    script = always((Send(sse_head() + chunk(FIRST)), *rest))
    async with serve(script, **options) as (upstream, client):
        deferred = []

        async def read():
            async with stream_of(client, key) as got:
                await got.read()
                assert got.defer_read()
                deferred.append(got)
                await got.read()

        reading = asyncio.create_task(read())
        await eventually(lambda: deferred)
        await asyncio.sleep(0.1)
        cancelled_at = time.monotonic()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        closed_at = await upstream.closed(0)
        deferred[0].resume_read()

        assert closed_at - cancelled_at < GUARANTEED_S


async def test_a_connection_is_reused_after_deferrals(serve, key, options):
    """The next request over the connection is read as if there had been no deferral."""
    events = ["1", "2", "3"]
    paused = [part for send in sse(events) for part in (send, Pause(0.01))]
    async with serve(in_turn(paused, sse(events), sse(events)), **options) as (upstream, client):
        for defers in (True, False, False):
            async with stream_of(client, key) as got:
                while await got.read():
                    if defers and got.defer_read():
                        asyncio.get_running_loop().call_later(0.005, got.resume_read)

        assert 1 == len(upstream.request_log.connections)
