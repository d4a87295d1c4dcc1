"""Every transport option of the server, proven by what it does: gRPC ignores unknown names silently.

Times are scaled down by replacing the value of an option, never its name; where the effect
of an option could be gRPC's own default, the same is shown to fail without the option.
"""

import asyncio
import threading
import time

import grpc
import pytest
from grpc import aio

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
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, json_answer
from togetherchat_server.frontends.grpc import server as front

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
    "grpc.server.max_pending_requests",
    "grpc.server.max_pending_requests_hard_limit",
    "grpc.so_reuseport",
}


def scaled(**changes):
    """The options of the server with other values; None leaves an option out."""
    named = {name.rpartition(".")[2]: name for name, _ in front.OPTIONS}
    values = dict(front.OPTIONS) | {named[short]: value for short, value in changes.items()}
    return tuple((name, value) for name, value in values.items() if value is not None)


@pytest.fixture
def options(monkeypatch):
    """Replace the server's options for one test."""

    def replace(**changes):
        monkeypatch.setattr(front, "OPTIONS", scaled(**changes))

    return replace


def whole_answer(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json_answer(200, {"id": "oid-1", "created": 1, "model": "m", "choices": [choice]})


def is_pong(frame):
    return frame.kind == PING and bool(frame.flags & ACK)


def is_ping(frame):
    return frame.kind == PING and not frame.flags & ACK


async def pongs_until_goaway(peer, *, pings):
    """How many of so many pings, one after the other, are answered before a GOAWAY."""
    for number in range(pings):
        peer.ping(number)
        await peer.seen(is_pong, times=number + 1)
        if refusals := [frame for frame in peer.frames if frame.kind == GOAWAY]:
            assert [ENHANCE_YOUR_CALM] == [frame.error for frame in refusals]
            return number
    return pings


async def pings_survived(peer):
    """Whether a connection stands eight pings at a pace of 120 ms."""
    for number in range(8):
        await asyncio.sleep(0.12)
        peer.ping(number)
        await peer.seen(lambda frame: is_pong(frame) or frame.kind == GOAWAY, times=number + 1)
        if any(frame.kind == GOAWAY for frame in peer.frames):
            return False
    return True


def test_every_option_has_its_proof():
    """An option that is added is proven here, or this fails."""
    assert PROVEN == {name for name, _ in front.OPTIONS}


async def test_messages_of_20_mebibytes_pass_in_both_directions():
    """gRPC's own limit on what is received is 4 MiB."""
    text = "x" * (20 * MEBIBYTE)
    async with (
        ScriptedUpstream(always(whole_answer(text))) as upstream,
        running_app(upstream.base_url, max_response_bytes=64 * MEBIBYTE) as app,
        aio.insecure_channel(
            app.addresses.grpc, options=[("grpc.max_receive_message_length", 64 * MEBIBYTE)]
        ) as channel,
    ):
        complete = channel.unary_unary(COMPLETE)
        answer = await complete(request(text).SerializeToString())

    assert 20 * MEBIBYTE < len(answer)
    assert 20 * MEBIBYTE < len(upstream.ledger.requests[0].body)


async def test_a_request_above_64_mebibytes_is_refused_and_the_server_serves_on():
    """Beyond the transport's bound gRPC itself refuses, by the length at the message's head."""
    async with (
        ScriptedUpstream(always(whole_answer("Hi"))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        failure = await failing(app.channel.unary_unary(COMPLETE)(bytes(64 * MEBIBYTE + 1)))
        after = await app.chat.Complete(request())

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
    assert "Hi" == after.choices[0].message.content[0].text


async def test_an_answer_above_the_limit_is_not_sent(options):
    """What leaves is bounded as well; scaled down from 64 MiB."""
    options(max_send_message_length=1000)
    script = always(whole_answer("x" * 1000))
    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url) as app:
        failure = await failing(app.chat.Complete(request()))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code


@pytest.mark.parametrize(("interval_ms", "kept"), [(50, True), (None, False)], ids=["set", "unset"])
async def test_pings_during_a_silent_call_are_tolerated(options, interval_ms, kept):
    """A caller that pings at the agreed pace keeps its long call; by gRPC's default it loses it."""
    options(min_ping_interval_without_data_ms=interval_ms)
    answered = asyncio.Event()
    async with (
        ScriptedUpstream(always((Pause(answered), *whole_answer("Hi")))) as upstream,
        running_app(upstream.base_url) as app,
        http2_peer(app.addresses.grpc) as peer,
    ):
        peer.call(1, COMPLETE, request().SerializeToString())
        await upstream.asked()
        assert kept == await pings_survived(peer)
        answered.set()
        if kept:
            trailers = await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)
            assert 0 == status_in(trailers)


@pytest.mark.parametrize(("permitted", "kept"), [(1, True), (None, False)], ids=["set", "unset"])
async def test_pings_without_a_call_are_tolerated(options, permitted, kept):
    """A caller between two calls may ping too; by gRPC's default once in two hours."""
    options(min_ping_interval_without_data_ms=50, keepalive_permit_without_calls=permitted)
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        assert kept == await pings_survived(peer)


@pytest.mark.parametrize(("strikes", "pongs"), [(3, 4), (None, 3)], ids=["set", "unset"])
async def test_pings_that_come_too_fast_are_struck(options, strikes, pongs):
    """The first ping and three strikes are answered, the fourth strike is ENHANCE_YOUR_CALM."""
    options(max_ping_strikes=strikes)
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        assert pongs == await pongs_until_goaway(peer, pings=8)
        await peer.ended()


async def test_a_peer_that_answers_no_ping_is_dropped(options):
    """A vanished caller is noticed after the keepalive time and its time-out, also without a call."""
    options(keepalive_time_ms=200, ping_timeout_ms=200)
    async with running_app() as app, http2_peer(app.addresses.grpc, pongs=False) as peer:
        await peer.seen(lambda frame: frame.kind == SETTINGS)
        await peer.ended()

    assert any(is_ping(frame) for frame in peer.frames)


async def test_a_peer_that_answers_pings_is_kept(options):
    """Silence with answered pings is no reason to leave, for however many pings."""
    options(keepalive_time_ms=100, ping_timeout_ms=2000)
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        await peer.seen(is_ping, times=6)

        assert not peer.closed


async def test_a_connection_has_a_bound_on_its_streams():
    """A peer is told how many calls one connection may carry; gRPC's default is no bound."""
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        told = await peer.seen(lambda frame: frame.kind == SETTINGS and not frame.flags & ACK)

    assert 1024 == told.settings[MAX_CONCURRENT_STREAMS]


async def test_a_port_that_is_taken_cannot_be_shared():
    """By gRPC's default a second server would bind, and take half of the calls."""
    async with running_app() as app:
        with pytest.raises(OSError, match="already in use"):
            async with running_app(grpc_listen=app.addresses.grpc):
                raise AssertionError("a second server shares the port")


async def test_a_connection_that_never_says_hello_is_closed(options):
    """One that is opened and left does not hold its place; scaled down from 10 s, by default 120."""
    options(server_handshake_timeout_ms=200)
    async with running_app() as app:
        host, _, port = app.addresses.grpc.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(5):
            while await reader.read(1024):
                pass
        writer.close()


async def test_a_connection_ends_at_its_age():
    """Its client is told by GOAWAY in time, so that no call is lost when it connects anew."""
    async with running_app(max_connection_age_s=0.3) as app, http2_peer(app.addresses.grpc) as peer:
        await peer.seen(lambda frame: frame.kind == GOAWAY)
        await peer.ended()


async def test_no_call_is_lost_where_connections_end_at_their_age():
    """Several generations of connections carry calls, one after the other and beside each other.

    A call that crosses the end is sent again by gRPC itself, since the server says that it never
    saw it. The channel of the other tests has even that turned off.
    """
    async with (
        ScriptedUpstream(always(whole_answer("Hi"))) as upstream,
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


async def test_a_peer_that_takes_nothing_is_gone_after_the_age_and_the_longest_call():
    """Its window is closed and it answers pings: no other limit ends it."""
    async with (
        ScriptedUpstream(always(whole_answer("Hi"))) as upstream,
        running_app(upstream.base_url, max_connection_age_s=0.2, call_timeout_s=1) as app,
        http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        peer.call(1, COMPLETE, request().SerializeToString())
        await peer.seen(lambda frame: frame.kind == HEADERS)
        await peer.seen(lambda frame: frame.kind == GOAWAY)
        await peer.ended()

    assert not [frame for frame in peer.frames if frame.kind == DATA]


def asked_at_once(address, calls, started):
    """The codes of so many calls, all of them on their way when `started` is set."""
    with grpc.insecure_channel(address) as channel:
        complete = channel.unary_unary(COMPLETE)
        futures = [complete.future(request().SerializeToString()) for _ in range(calls)]
        started.set()
        return {future.code() for future in futures}


@pytest.mark.parametrize("pending_max", [front.PENDING_MAX, 10])
async def test_a_burst_beyond_what_the_loop_can_take_up_is_answered(options, pending_max):
    """Each call is served or refused by us. gRPC's own bound, had it been reached, cancels without a word."""
    options(max_pending_requests=pending_max, max_pending_requests_hard_limit=pending_max)
    started = threading.Event()
    async with running_app(max_concurrent_calls=5) as app:
        asking = asyncio.create_task(asyncio.to_thread(asked_at_once, app.addresses.grpc, 200, started))
        while not started.is_set():  # the loop is kept from taking them up, from the first one on
            await asyncio.sleep(0)
            time.sleep(0.3)  # noqa: ASYNC251  that is what is tried
        codes = await asking

    assert codes - {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE} == (
        set() if pending_max == front.PENDING_MAX else {grpc.StatusCode.CANCELLED}
    )
