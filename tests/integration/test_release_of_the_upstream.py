"""A call that ends early closes its upstream socket at once, in every phase and whichever side ends it.

The sockets are real on both sides; the upstream's request log records when its peer closed. The guarantee
is a quarter of a second; a few milliseconds are usual.
"""

import asyncio
import time
from dataclasses import dataclass

import grpc
import pytest

from support import openai
from support.app import collect, failing, grpc_timeout, request, running_app
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Repeat, Send, Stall, chunk, head, json_response, sse_event, sse_head
from support.waiting import eventually

CLOSE_DEADLINE_S = 0.25
DEADLINE_MS = 2000

EVENT = sse_event(openai.chunk("word " * 200))


@dataclass(frozen=True)
class Phase:
    """How far a call has progressed when it ends."""

    name: str
    stream: bool
    answer: tuple = ()
    on_connect: tuple = ()
    scheme: str = ""


COMMENT = chunk(b": keepalive\n\n")
BODY_BEGUN = head(200, {"Content-Type": "application/json", "Content-Length": 100}) + b"{"

PHASES = [
    Phase("in the TLS handshake", stream=False, on_connect=(Stall(),), scheme="https"),
    Phase("waiting for a unary response", stream=False, answer=(Stall(),)),
    Phase("in the body of a unary response", stream=False, answer=(Send(BODY_BEGUN), Stall())),
    Phase("waiting for a stream", stream=True, answer=(Stall(),)),
    Phase("before the first token", stream=True, answer=(Send(sse_head() + COMMENT), Stall())),
    Phase("within a stream", stream=True, answer=(Send(sse_head() + EVENT), Stall())),
    Phase("within a stream whose caller does not read", stream=True, answer=(Send(sse_head()), Repeat(EVENT, 100_000))),
]  # fmt: skip


def upstream_in(phase):
    return ScriptedUpstream(always(phase.answer), on_connect=phase.on_connect, scheme=phase.scheme)


async def reached(upstream, phase):
    """Wait until the call has reached its phase."""
    if phase.scheme:
        await upstream.until(lambda log: log.connections and log.connections[0].bytes_received)
        return
    await upstream.received()
    if any(isinstance(step, Repeat) for step in phase.answer):
        await blocked(upstream)
    elif len(phase.answer) > 1:
        await upstream.until(lambda log: log.requests[0].bytes_sent)


async def blocked(upstream):
    """Wait until the sender is blocked: the service has stopped reading."""
    before = -1
    while before != (now := upstream.request_log.requests[0].bytes_sent):
        before = now
        await asyncio.sleep(0.2)


def begin(app, phase, **options):
    if not phase.stream:
        return app.chat.Complete(request(), **options)
    return app.chat.StreamComplete(request(), **options)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
async def test_a_cancel_closes_the_upstream(phase):
    """A cancel of the caller closes the provider's socket within 250 ms."""
    async with upstream_in(phase) as upstream, running_app(upstream.base_url) as app:
        call = begin(app, phase)
        waiting = asyncio.ensure_future(call.wait_for_connection())
        await reached(upstream, phase)

        cancelled_at = time.monotonic()
        call.cancel()
        closed_at = await upstream.closed(0)
        await asyncio.gather(waiting, return_exceptions=True)

    assert closed_at - cancelled_at < CLOSE_DEADLINE_S
    (record,) = app.records()
    assert ("CANCELLED", "CALLER_CANCELLED") == (record["code"], record["reason"])


@pytest.mark.parametrize("phase", PHASES[:-1], ids=lambda phase: phase.name)
async def test_a_deadline_closes_the_upstream(phase):
    """When the caller's deadline passes, the socket is closed and the status names that deadline."""
    async with upstream_in(phase) as upstream, running_app(upstream.base_url) as app:
        if phase.stream:
            _, failure = await collect(begin(app, phase, metadata=grpc_timeout(DEADLINE_MS)))
        else:
            failure = await failing(begin(app, phase, metadata=grpc_timeout(DEADLINE_MS)))
        failed_at = time.monotonic()
        closed_at = await upstream.closed(0)

    assert closed_at - failed_at < CLOSE_DEADLINE_S
    assert (grpc.StatusCode.DEADLINE_EXCEEDED, "CALLER_DEADLINE") == (failure.code, failure.info.reason)


async def test_the_deadline_of_a_caller_that_does_not_read_closes_the_upstream():
    """A blocked write to the caller ends with the deadline too."""
    phase = PHASES[-1]
    async with upstream_in(phase) as upstream, running_app(upstream.base_url) as app:
        began_at = time.monotonic()
        call = begin(app, phase, timeout=1.0)
        closed_at = await upstream.closed(0)
        assert grpc.StatusCode.DEADLINE_EXCEEDED == await call.code()

    assert closed_at - began_at < 1.0 + CLOSE_DEADLINE_S


async def test_a_lost_connection_of_the_caller_closes_the_upstream():
    """The caller's connection closes without a cancel."""
    phase = PHASES[5]
    async with upstream_in(phase) as upstream, running_app(upstream.base_url) as app:
        call = begin(app, phase)
        await call.read()
        closed_by_caller_at = time.monotonic()
        await app.channel.close(grace=None)
        closed_at = await upstream.closed(0)

    assert closed_at - closed_by_caller_at < CLOSE_DEADLINE_S


async def test_a_caller_that_does_not_read_is_disconnected():
    """After the write timeout the provider's connection is closed, whatever the caller does."""
    phase = PHASES[-1]
    async with upstream_in(phase) as upstream, running_app(upstream.base_url, write_timeout_s=0.3) as app:
        call = begin(app, phase)
        await upstream.closed(0)
        call.cancel()

    (record,) = app.records()
    assert ("CANCELLED", "CALLER_STALLED") == (record["code"], record["reason"])


async def test_a_disconnected_caller_gets_the_status_when_it_reads_on():
    """The caller receives what was sent before, and then the status: no read waits for ever."""
    phase = PHASES[-1]
    async with upstream_in(phase) as upstream, running_app(upstream.base_url, write_timeout_s=0.3) as app:
        call = begin(app, phase)
        await upstream.closed(0)
        await eventually(lambda: app.admission.in_flight == 0)
        async with asyncio.timeout(10):
            events, failure = await collect(call)

    assert events
    assert (grpc.StatusCode.CANCELLED, "CALLER_STALLED") == (failure.code, failure.info.reason)
    assert [("CANCELLED", "CALLER_STALLED")] == [(one["code"], one["reason"]) for one in app.records()]


async def test_the_provider_is_read_no_faster_than_the_caller_reads():
    """A caller that does not read blocks the sender long before the end of the stream."""
    phase = PHASES[-1]
    async with upstream_in(phase) as upstream, running_app(upstream.base_url) as app:
        call = begin(app, phase)
        await reached(upstream, phase)
        sent = upstream.request_log.requests[0].bytes_sent
        call.cancel()

    assert sent < len(EVENT) * 100_000 / 4


async def test_the_service_works_after_many_cancels():
    """A hundred calls cancelled at once leave no socket open and no permit taken."""
    async with (
        ScriptedUpstream(lambda r: (Stall(),)) as upstream,
        running_app(upstream.base_url, max_concurrent_calls=100) as app,
    ):
        calls = [app.chat.Complete(request()) for _ in range(100)]
        await upstream.received(100)
        for call in calls:
            call.cancel()
        await upstream.until(lambda log: not log.still_open)

        upstream.script = always(json_response(503, {}))
        after = [await failing(app.chat.Complete(request())) for _ in range(2)]

    assert ["UPSTREAM_OVERLOADED"] * 2 == [failure.info.reason for failure in after]
    assert 102 == len(app.records())
