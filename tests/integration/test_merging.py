"""Deferred reads in the whole service: what merges, and what is never delayed."""

import asyncio
import time
from contextlib import asynccontextmanager

import grpc
import pytest

from support import openai
from support.app import MODEL, collect, grpc_timeout, request, running_app
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Repeat, Send, Stall, chunk, sse_event, sse_head
from support.waiting import eventually
from togetherchat_server.runtime import wiring
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.upstream import merge_interval

CLOSE_DEADLINE_S = 0.25
LONG_S = 5.0
WORDS = [f"word{number} " for number in range(30)]
END = sse_event(openai.chunk(finish_reason="stop")) + sse_event(openai.DONE) + chunk(b"")


@pytest.fixture
def saturated(monkeypatch):
    """Serve as on a machine that is never fast enough, even for one stream."""
    monkeypatch.setattr(wiring, "cpu_capacity", lambda: 1e-6)
    monkeypatch.setattr(merge_interval, "STREAM_CEILING_S", 100.0)
    monkeypatch.setattr(merge_interval, "RAISE_S", 100.0)


def paced(words, pause_s):
    """A stream of words with a pause before each but the first."""
    first, *others = [Send(sse_event(openai.chunk(word))) for word in words]
    return (Send(sse_head()), first, *(step for send in others for step in (Pause(pause_s), send)), Send(END))


def text_of(events):
    return "".join(event.delta.text for event in events if event.HasField("delta"))


def interval_s(app):
    return app.metrics.gauges[names.MERGE_INTERVAL,]()


def count_of(app, name):
    return app.metrics.snapshot().store.counters.get((name,), 0)


@asynccontextmanager
async def deferring(app):
    """Hold a stream open until reads are deferred by the longest interval."""
    holding = app.chat.StreamComplete(request(model="held"))
    await holding.read()
    await eventually(lambda: interval_s(app) > 0)
    yield
    holding.cancel()


def script_of(words):
    """The words for the model of the tests; for the model `held` a stream that goes on for ever."""
    held = (Send(sse_head() + sse_event(openai.chunk("Hi"))), Stall())
    return lambda received: held if b'"held"' in received.body else words


async def test_on_an_idle_service_no_token_waits():
    """Ten streams of 20 tokens a second: no read is deferred, and every delta is a message of its own."""
    async with (
        ScriptedUpstream(always(paced(WORDS, 0.05))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        streams = await asyncio.gather(*(collect(app.chat.StreamComplete(request())) for _ in range(10)))
        deferred, deltas = count_of(app, names.DEFERRED_READS), count_of(app, names.STREAM_DELTAS)

    assert ["".join(WORDS)] * 10 == [text_of(events) for events, _ in streams]
    assert 0 == deferred
    assert 10 * len(WORDS) == deltas


@pytest.mark.usefixtures("saturated")
async def test_tokens_merge_near_saturation():
    """The text is the same in fewer messages, which the metrics and the call record show."""
    script = script_of(paced(WORDS, 0.02))
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, max_merge_interval_s=0.2) as app,
    ):
        async with deferring(app):
            events, failure = await collect(app.chat.StreamComplete(request()))
        deferred = count_of(app, names.DEFERRED_READS)
        deltas, messages = count_of(app, names.STREAM_DELTAS), count_of(app, names.STREAM_MESSAGES)
    record = next(one for one in app.records() if one["model"] == MODEL)

    assert failure is None
    assert "".join(WORDS) == text_of(events)
    assert 0 < deferred
    assert len(events) < len(WORDS) / 2
    assert (len(WORDS), len(events)) == (record["deltas"], record["messages_sent"])
    assert (deltas, messages) == (len(WORDS), len(events))


@pytest.mark.usefixtures("saturated")
async def test_tokens_merge_over_http():
    """The HTTP frontend merges as the gRPC frontend does."""
    script = script_of(paced(WORDS, 0.02))
    async with (
        ScriptedUpstream(script) as upstream,
        running_http(upstream.base_url, max_merge_interval_s=0.2) as service,
        deferring(service.app),
    ):
        *events, done = await service.events()

    assert "[DONE]" == done
    assert "".join(WORDS) == "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    assert len(events) < len(WORDS) / 2


@pytest.mark.usefixtures("saturated")
async def test_the_first_token_is_not_deferred():
    """A stream's first text arrives at once, however long reads are deferred."""
    script = script_of((Send(sse_head()), Pause(0.05), Send(sse_event(openai.chunk("Hi"))), Stall()))
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, max_merge_interval_s=LONG_S) as app,
        deferring(app),
    ):
        stream = app.chat.StreamComplete(request())
        began_s = time.monotonic()
        while not (await stream.read()).delta.text:
            pass
        taken_s = time.monotonic() - began_s
        stream.cancel()

    assert taken_s < LONG_S / 4


@pytest.mark.usefixtures("saturated")
@pytest.mark.parametrize("rest", [(Stall(),), (Repeat(sse_event(openai.chunk("word ")), 100_000),)])
async def test_a_cancel_during_a_deferral_closes_the_providers_connection(rest):
    """The provider sees the close within 250 ms, although the read is deferred by seconds."""
    script = script_of((Send(sse_head() + sse_event(openai.chunk("Hi"))), *rest))
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, max_merge_interval_s=LONG_S) as app,
        deferring(app),
    ):
        stream = app.chat.StreamComplete(request())
        while not (await stream.read()).delta.text:
            pass
        await eventually(lambda: count_of(app, names.DEFERRED_READS))
        cancelled_s = time.monotonic()
        stream.cancel()
        closed_s = await upstream.closed(upstream.request_log.requests[-1].connection)

    assert closed_s - cancelled_s < CLOSE_DEADLINE_S


@pytest.mark.usefixtures("saturated")
async def test_a_deadline_ends_a_deferred_stream_in_time():
    """Shortly before the deadline reads are not deferred: what arrives until then is passed on."""
    script = script_of(paced(WORDS, 0.05))
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, max_merge_interval_s=0.3) as app,
        deferring(app),
    ):
        began_s = time.monotonic()
        stream = app.chat.StreamComplete(request(), metadata=grpc_timeout(1000))
        events, failure = await collect(stream)
        taken_s = time.monotonic() - began_s

    assert grpc.StatusCode.DEADLINE_EXCEEDED is failure.code
    assert "CALLER_DEADLINE" == failure.info.reason
    assert 0.7 < taken_s < 1.0 + CLOSE_DEADLINE_S
    assert len(text_of(events).split()) >= 10


@pytest.mark.usefixtures("saturated")
async def test_a_drain_passes_on_what_has_arrived():
    """When the service stops, a stream gets what its provider has sent, then DRAINING, without a deferral."""
    goes_on = asyncio.Event()
    first, second = (sse_event(openai.chunk(text)) for text in ("one ", "two "))
    script = script_of((Send(sse_head() + first), Pause(goes_on), Send(second), Stall()))
    stop_now = asyncio.Event()
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, max_merge_interval_s=LONG_S, drain_timeout_s=1.2) as app,
        deferring(app),
    ):
        stream = app.chat.StreamComplete(request())
        collecting = asyncio.create_task(collect(stream))
        await eventually(lambda: count_of(app, names.DEFERRED_READS))
        goes_on.set()
        began_s = time.monotonic()
        await app.app.stop(stop_now=stop_now)
        events, failure = await collecting
        taken_s = time.monotonic() - began_s

    assert "one two " == text_of(events)
    assert "DRAINING" == failure.info.reason
    assert taken_s < LONG_S / 2


@pytest.mark.usefixtures("saturated")
async def test_a_deferral_is_not_the_providers_silence():
    """An idle timeout shorter than the interval does not end a stream whose provider keeps sending."""
    script = script_of(paced(WORDS, 0.02))
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, max_merge_interval_s=0.4, stream_idle_timeout_s=0.15) as app,
    ):
        streams = [asyncio.create_task(collect(app.chat.StreamComplete(request()))) for _ in range(5)]
        results = [await stream for stream in streams]

    assert [None] * 5 == [failure for _, failure in results]


@pytest.mark.usefixtures("saturated")
async def test_zero_switches_merging_off():
    """With --max-merge-interval-s 0 every delta is a message of its own, however busy the process."""
    async with (
        ScriptedUpstream(always(paced(WORDS, 0.01))) as upstream,
        running_app(upstream.base_url, max_merge_interval_s=0) as app,
    ):
        events, failure = await collect(app.chat.StreamComplete(request()))
        deferred = count_of(app, names.DEFERRED_READS)

    assert failure is None
    assert len(WORDS) < len(events)
    assert 0 == deferred
