"""A caller that disconnects over HTTP releases the provider within 250 ms, in every phase.

The upstream's log shows when the service closed the connection.
"""

import asyncio
import time
from dataclasses import dataclass

import pytest

from support import openai
from support.http_client import head, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Repeat, Send, Stall, chunk, json_response, sse_event, sse_head
from support.waiting import eventually

CLOSE_DEADLINE_S = 0.25
DELTA = sse_event(openai.chunk("word " * 200))


@dataclass(frozen=True)
class Phase:
    """How far a call has come when its caller leaves."""

    name: str
    stream: bool
    response: tuple
    reads: bool = False


PHASES = [
    Phase("waiting for a unary response", stream=False, response=(Stall(),)),
    Phase("waiting for a stream", stream=True, response=(Stall(),)),
    Phase("before the first token", stream=True, response=(Send(sse_head() + chunk(b": keepalive\n\n")), Stall())),
    Phase("within a stream", stream=True, response=(Send(sse_head() + DELTA), Stall()), reads=True),
    Phase("within a stream that the caller does not read", stream=True, response=(Send(sse_head()), Repeat(DELTA, 100_000))),
]  # fmt: skip


async def reached(upstream, caller, phase):
    """Wait until the call has reached its phase."""
    await upstream.received()
    if phase.reads:
        await caller.read_head()
    elif isinstance(phase.response[-1], Repeat):
        await stops_reading(upstream)
    elif len(phase.response) > 1:
        await upstream.until(lambda log: log.requests[0].bytes_sent)


async def stops_reading(upstream):
    """Wait until the upstream sends nothing more: the service has stopped reading."""
    before = -1
    while before != (now := upstream.request_log.requests[0].bytes_sent):
        before = now
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
async def test_a_caller_that_leaves_closes_the_upstream(phase, leave):
    """The caller closes or resets its connection; the call is recorded as cancelled."""
    async with (
        ScriptedUpstream(always(phase.response)) as upstream,
        running_http(upstream.base_url) as service,
        raw_caller(service.address, receive_bytes=4096) as caller,
    ):
        await caller.post(request_body(stream=phase.stream))
        await reached(upstream, caller, phase)
        left_at = time.monotonic()
        getattr(caller, leave)()
        closed_at = await upstream.closed(0)
        (record,) = await service.recorded()
        await eventually(lambda: service.app.app.in_flight == 0)

    assert closed_at - left_at < CLOSE_DEADLINE_S
    assert ("499", "CALLER_CANCELLED") == (record["code"], record["reason"])


async def test_a_caller_that_leaves_while_sending_releases_its_permit():
    """Half of the body was sent."""
    async with running_http() as service, raw_caller(service.address) as caller:
        await caller.send(head("content-length: 100") + b"{")
        await eventually(lambda: service.app.app.in_flight == 1)
        caller.reset()
        (record,) = await service.recorded()
        await eventually(lambda: service.app.app.in_flight == 0)

    assert "CALLER_CANCELLED" == record["reason"]


async def test_a_caller_that_reads_nothing_is_disconnected():
    """After the write timeout the provider is released and the connection is aborted."""
    phase = PHASES[-1]
    async with (
        ScriptedUpstream(always(phase.response)) as upstream,
        running_http(upstream.base_url, write_timeout_s=0.3) as service,
        raw_caller(service.address, receive_bytes=4096) as caller,
    ):
        await caller.post(request_body(stream=True))
        await upstream.closed(0)
        (record,) = await service.recorded()
        await caller.read_to_end()

    assert ("408", "CALLER_STALLED") == (record["code"], record["reason"])


async def test_a_caller_that_does_not_read_a_unary_response_is_disconnected():
    """A large response is not kept in memory without limit."""
    text = "word " * 1_000_000
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion(text)))) as upstream,
        running_http(upstream.base_url, write_timeout_s=0.3) as service,
        raw_caller(service.address, receive_bytes=4096) as caller,
    ):
        await caller.post(request_body())
        (record,) = await service.recorded()
        read = await caller.read_to_end()

    assert len(read) < len(text)
    assert "CALLER_STALLED" == record["reason"]
