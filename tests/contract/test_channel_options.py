"""Every transport option of the server, proven by its effect: gRPC silently ignores unknown names.

Times are scaled down by replacing the value of an option, never its name. Where the effect could be
gRPC's own default, the same test fails without the option.
"""

import asyncio
import threading
import time
from collections import Counter

import grpc
import pytest
from grpc import aio

from support import openai
from support.app import failing, request, running_app
from support.http2_peer import (
    ACK,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    PING,
    SETTINGS,
    http2_peer,
    status_in,
)
from support.scraping import scraped
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, json_response
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.frontends.grpc import server as grpc_server
from togetherchat_server.telemetry.metrics import definitions as names

MEBIBYTE = 2**20
WATCH = "/grpc.health.v1.Health/Watch"
COMPLETE = "/togetherchat.v1.ChatService/Complete"
PROVEN = {
    "grpc.max_receive_message_length",
    "grpc.max_send_message_length",
    "grpc.http2.min_ping_interval_without_data_ms",
    "grpc.keepalive_permit_without_calls",
    "grpc.http2.max_ping_strikes",
    "grpc.keepalive_time_ms",
    "grpc.http2.ping_timeout_ms",
    "grpc.server_handshake_timeout_ms",
    "grpc.max_concurrent_streams",
    "grpc.http2.settings_timeout",
    "grpc.http.tarpit",
    "grpc.server.max_pending_requests",
    "grpc.server.max_pending_requests_hard_limit",
    "grpc.server_max_unrequested_time_in_server",  # in test_acceptance
    "grpc.so_reuseport",
}


def scaled(**changes):
    """Return the server's options with other values; None removes an option."""
    named = {name.rpartition(".")[2]: name for name, _ in grpc_server.OPTIONS}
    values = dict(grpc_server.OPTIONS) | {named[short]: value for short, value in changes.items()}
    return tuple((name, value) for name, value in values.items() if value is not None)


@pytest.fixture
def options(monkeypatch):
    """Replace the server's options for one test."""

    def replace(**changes):
        monkeypatch.setattr(grpc_server, "OPTIONS", scaled(**changes))

    return replace


def complete_response(text):
    return json_response(200, openai.completion(text))


def is_pong(frame):
    return frame.kind == PING and bool(frame.flags & ACK)


def is_ping(frame):
    return frame.kind == PING and not frame.flags & ACK


async def pongs_until_goaway(peer, *, pings):
    """Send pings one after the other. Return how many were answered before a GOAWAY."""
    for number in range(pings):
        peer.ping(number)
        await peer.seen(is_pong, times=number + 1)
        if goaways := [frame for frame in peer.frames if frame.kind == GOAWAY]:
            assert [ENHANCE_YOUR_CALM] == [frame.error for frame in goaways]
            return number
    return pings


async def pings_survived(peer):
    """Return whether a connection survives eight pings at intervals of 120 ms."""
    for number in range(8):
        await asyncio.sleep(0.12)
        peer.ping(number)
        await peer.seen(lambda frame: is_pong(frame) or frame.kind == GOAWAY, times=number + 1)
        if any(frame.kind == GOAWAY for frame in peer.frames):
            return False
    return True


def test_every_option_has_a_test():
    """A new option needs a test here."""
    assert PROVEN == {name for name, _ in grpc_server.OPTIONS}


async def test_messages_of_20_mebibytes_pass_in_both_directions():
    """gRPC's default limit on received messages is 4 MiB."""
    text = "x" * (20 * MEBIBYTE)
    async with (
        ScriptedUpstream(always(complete_response(text))) as upstream,
        running_app(upstream.base_url, max_response_bytes=64 * MEBIBYTE) as app,
        aio.insecure_channel(
            app.addresses.grpc, options=[("grpc.max_receive_message_length", 64 * MEBIBYTE)]
        ) as channel,
    ):
        complete = channel.unary_unary(COMPLETE)
        response = await complete(request(text).SerializeToString())

    assert 20 * MEBIBYTE < len(response)
    assert 20 * MEBIBYTE < len(upstream.request_log.requests[0].body)


async def test_a_request_above_64_mebibytes_is_rejected_and_the_server_continues():
    """gRPC itself rejects it, by the length in the message's header."""
    async with (
        ScriptedUpstream(always(complete_response("Hi"))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        failure = await failing(app.channel.unary_unary(COMPLETE)(bytes(64 * MEBIBYTE + 1)))
        after = await app.chat.Complete(request())

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
    assert "Hi" == after.choices[0].message.content[0].text


async def test_a_response_above_the_limit_is_not_sent(options):
    """The bound is scaled down from 64 MiB."""
    options(max_send_message_length=1000)
    script = always(complete_response("x" * 1000))
    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url) as app:
        failure = await failing(app.chat.Complete(request()))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code


@pytest.mark.parametrize(("interval_ms", "kept"), [(50, True), (None, False)], ids=["set", "unset"])
async def test_pings_during_an_idle_call_are_accepted(options, interval_ms, kept):
    """A caller that pings at the allowed interval keeps its call; by gRPC's default it loses the call."""
    options(min_ping_interval_without_data_ms=interval_ms)
    answered = asyncio.Event()
    async with (
        ScriptedUpstream(always((Pause(answered), *complete_response("Hi")))) as upstream,
        running_app(upstream.base_url) as app,
        http2_peer(app.addresses.grpc) as peer,
    ):
        peer.call(1, COMPLETE, request().SerializeToString())
        await upstream.received()
        assert kept == await pings_survived(peer)
        answered.set()
        if kept:
            trailers = await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)
            assert 0 == status_in(trailers)


@pytest.mark.parametrize(("permitted", "kept"), [(1, True), (None, False)], ids=["set", "unset"])
async def test_pings_without_a_call_are_accepted(options, permitted, kept):
    """A caller may ping between two calls too; by gRPC's default once in two hours."""
    options(min_ping_interval_without_data_ms=50, keepalive_permit_without_calls=permitted)
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        assert kept == await pings_survived(peer)


@pytest.mark.parametrize(("strikes", "pongs"), [(3, 4), (None, 3)], ids=["set", "unset"])
async def test_pings_that_come_too_fast_end_the_connection(options, strikes, pongs):
    """The first ping and three strikes are answered; the fourth strike gets ENHANCE_YOUR_CALM."""
    options(max_ping_strikes=strikes)
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        assert pongs == await pongs_until_goaway(peer, pings=8)
        await peer.ended()


async def test_a_peer_that_answers_no_ping_is_dropped(options):
    """A vanished caller is detected after the keepalive time and its timeout, also without a call."""
    options(keepalive_time_ms=200, ping_timeout_ms=200)
    async with running_app() as app, http2_peer(app.addresses.grpc, pongs=False) as peer:
        await peer.seen(lambda frame: frame.kind == SETTINGS)
        await peer.ended()

    assert any(is_ping(frame) for frame in peer.frames)


async def test_a_peer_that_answers_pings_is_kept(options):
    """An idle connection stays open while its pings are answered."""
    options(keepalive_time_ms=100, ping_timeout_ms=2000)
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        await peer.seen(is_ping, times=6)

        assert not peer.closed


async def test_a_connection_has_a_bound_on_its_streams():
    """SETTINGS states how many calls one connection may carry; by gRPC's default there is no bound."""
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        settings = await peer.seen(lambda frame: frame.kind == SETTINGS and not frame.flags & ACK)

    assert 1024 == settings.settings[MAX_CONCURRENT_STREAMS]


@pytest.mark.parametrize("acknowledges", [True, False])
async def test_a_peer_that_does_not_acknowledge_the_settings_is_dropped(options, acknowledges):
    """Until then the bound on its headers is 16 MiB. The timeout is scaled down from half a second."""
    options(settings_timeout=200)
    async with running_app() as app, http2_peer(app.addresses.grpc, acknowledges=acknowledges) as peer:
        if acknowledges:
            await asyncio.sleep(0.6)
            assert not peer.closed
        else:
            await peer.ended()


@pytest.mark.parametrize(("tarpit", "late"), [(0, False), (1, True)])
async def test_a_call_with_too_large_headers_is_rejected_at_once(options, tarpit, late):
    """By gRPC's default its memory is held for 100 ms to a second before it is rejected."""
    options(tarpit=tarpit)
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        await peer.seen(lambda frame: frame.kind == SETTINGS and frame.flags & ACK)
        delays = []
        for stream in (1, 3, 5):
            begun_s = time.monotonic()
            # Above gRPC's hard bound of 16 KiB: between the soft one and that, it rejects calls at random.
            peer.open(stream, COMPLETE, [("x-long", "x" * 16_150)])
            await peer.seen(lambda frame, stream=stream: frame.stream == stream)
            delays.append(time.monotonic() - begun_s)

    assert late == (min(delays) > 0.09)


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_rejected_unless_allowed(allowed, algorithm):
    """gRPC decompresses a message before this service knows whose it is."""
    async with (
        ScriptedUpstream(always(complete_response("Hi"))) as upstream,
        running_app(upstream.base_url, grpc_request_compression=allowed) as app,
        aio.insecure_channel(app.addresses.grpc, compression=algorithm) as channel,
    ):
        complete = channel.unary_unary(COMPLETE)(request("Hi" * 1000).SerializeToString())
        if allowed:
            await complete
        else:
            failure = await failing(complete)
            assert grpc.StatusCode.UNIMPLEMENTED is failure.code


async def test_connections_are_bounded():
    """A further connection is closed before its handshake; the others are served."""
    async with running_app(max_connections=2) as app, http2_peer(app.addresses.grpc) as peer:
        host, _, port = app.addresses.grpc.rpartition(":")
        await app.channel.channel_ready()
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(5):
            assert b"" == await reader.read()
        writer.close()
        await app.chat.ListModels(service.ListModelsRequest())
        assert not peer.closed


async def test_an_idle_connection_is_closed():
    """The server sends GOAWAY first, so that no call is lost."""
    async with running_app(max_connection_idle_s=0.3) as app, http2_peer(app.addresses.grpc) as peer:
        await peer.seen(lambda frame: frame.kind == GOAWAY)
        await peer.ended()


async def test_the_probe_listener_takes_small_messages_and_few_connections():
    """It serves probes alone, which need no more."""
    async with running_app(health_listen="127.0.0.1:0") as app:
        async with aio.insecure_channel(app.addresses.health) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            await check(b"")
            failure = await failing(check(bytes(5000)))
            assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
        async with http2_peer(app.addresses.health) as peer:
            settings = await peer.seen(lambda frame: frame.kind == SETTINGS and not frame.flags & ACK)
            assert 100 == settings.settings[MAX_CONCURRENT_STREAMS]


async def test_a_port_in_use_cannot_be_shared():
    """By gRPC's default a second server would bind, and receive half of the calls."""
    async with running_app() as app:
        with pytest.raises(OSError, match="already in use"):
            async with running_app(grpc_listen=app.addresses.grpc):
                raise AssertionError("a second server shares the port")


async def test_a_connection_without_a_handshake_is_closed(options):
    """The timeout is scaled down from 10 s; gRPC's default is 120 s."""
    options(server_handshake_timeout_ms=200)
    async with running_app() as app:
        host, _, port = app.addresses.grpc.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(5):
            while await reader.read(1024):
                pass
        writer.close()


async def test_a_connection_ends_at_its_age():
    """The server sends GOAWAY first, so that no call is lost when the client reconnects."""
    async with running_app(max_connection_age_s=0.3) as app, http2_peer(app.addresses.grpc) as peer:
        await peer.seen(lambda frame: frame.kind == GOAWAY)
        await peer.ended()


async def test_no_call_is_lost_when_connections_end_at_their_age():
    """Several generations of connections carry sequential and concurrent calls.

    gRPC itself resends a call that crosses the end, since GOAWAY states that the server never saw it.
    The channel of the other tests has this disabled.
    """
    async with (
        ScriptedUpstream(always(complete_response("Hi"))) as upstream,
        running_app(upstream.base_url, max_connection_age_s=0.2) as app,
        aio.insecure_channel(app.addresses.grpc) as channel,
    ):
        complete = channel.unary_unary(COMPLETE)

        async def caller():
            for _ in range(60):
                await complete(request().SerializeToString())
                await asyncio.sleep(0.02)

        await asyncio.gather(*(caller() for _ in range(5)))
        records = app.records()

    assert 300 == sum(record["code"] == "OK" for record in records)


async def test_a_peer_that_reads_nothing_is_dropped_after_the_age_and_the_call_timeout():
    """The peer's window is closed and it answers pings: no other limit ends its connection."""
    async with (
        ScriptedUpstream(always(complete_response("Hi"))) as upstream,
        running_app(upstream.base_url, max_connection_age_s=0.2, call_timeout_s=1) as app,
        http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        peer.call(1, COMPLETE, request().SerializeToString())
        await peer.seen(lambda frame: frame.kind == HEADERS)
        await peer.seen(lambda frame: frame.kind == GOAWAY)
        await peer.ended()

    assert not [frame for frame in peer.frames if frame.kind == DATA]


def codes_of_burst(address, calls, started):
    """Return how many of many calls ended with each code. All of them have been sent when `started` is set."""
    with grpc.insecure_channel(address) as channel:
        complete = channel.unary_unary(COMPLETE)
        futures = [complete.future(request().SerializeToString()) for _ in range(calls)]
        started.set()
        return Counter(future.code() for future in futures)


@pytest.mark.parametrize("pending_max", [grpc_server.PENDING_MAX, 10])
async def test_a_burst_beyond_the_pace_of_the_event_loop_is_answered(options, pending_max):
    """The service serves or rejects each call. gRPC's own bound would cancel calls without a reason."""
    options(max_pending_requests=pending_max, max_pending_requests_hard_limit=pending_max)
    started = threading.Event()
    async with running_app(max_concurrent_calls=5) as app:
        burst = asyncio.create_task(asyncio.to_thread(codes_of_burst, app.addresses.grpc, 200, started))
        while not started.is_set():  # block the loop, so that it accepts no call
            await asyncio.sleep(0)
            time.sleep(0.3)  # noqa: ASYNC251  blocking is the purpose
        codes = await burst
        page = await scraped(app.addresses.admin)

    assert codes.keys() - {
        grpc.StatusCode.OK,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    } == (set() if pending_max == grpc_server.PENDING_MAX else {grpc.StatusCode.CANCELLED})
    assert page.value(names.GRPC_CALLS_STARTED) == codes.total()
    assert page.value(names.GRPC_CALLS_ACCEPTED) == codes.total() - codes[grpc.StatusCode.CANCELLED]
