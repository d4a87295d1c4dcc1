"""A caller of the door who leaves releases the provider at once, in every phase.

The upstream's ledger says when its peer hung up. A quarter of a second is the promise.
"""

import asyncio
import time
from dataclasses import dataclass

import pytest

from support.http_client import ask, head, raw_caller, running_door
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Repeat, Send, Stall, chunk, json_answer, sse_head
from support.waiting import eventually

PROMISE_S = 0.25
PIECE = chunk(
    b'data: {"id":"o","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"'
    + b"word " * 200
    + b'"},"finish_reason":null}]}\n\n'
)


@dataclass(frozen=True)
class Phase:
    """How far a call has come when its caller leaves."""

    name: str
    stream: bool
    answer: tuple
    reads: bool = False


PHASES = [
    Phase("waiting for a whole answer", stream=False, answer=(Stall(),)),
    Phase("waiting for a stream", stream=True, answer=(Stall(),)),
    Phase("before the first token", stream=True, answer=(Send(sse_head() + chunk(b": keepalive\n\n")), Stall())),
    Phase("within a stream", stream=True, answer=(Send(sse_head() + PIECE), Stall()), reads=True),
    Phase("within a stream that nobody reads", stream=True, answer=(Send(sse_head()), Repeat(PIECE, 100_000))),
]  # fmt: skip


async def reached(upstream, caller, phase):
    """Wait until the call has come as far as its phase says."""
    await upstream.asked()
    if phase.reads:
        await caller.head()
    elif isinstance(phase.answer[-1], Repeat):
        await stands_still(upstream)
    elif len(phase.answer) > 1:
        await upstream.until(lambda ledger: ledger.requests[0].bytes_sent)


async def stands_still(upstream):
    """Wait until the sender makes no more headway: the service has stopped reading."""
    before = -1
    while before != (now := upstream.ledger.requests[0].bytes_sent):
        before = now
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("leave", ["leave", "reset"])
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
async def test_a_caller_who_leaves_closes_the_upstream(phase, leave):
    """In order or with a reset; the call is recorded as cancelled."""
    async with (
        ScriptedUpstream(always(phase.answer)) as upstream,
        running_door(upstream.base_url) as door,
        raw_caller(door, receive_bytes=4096) as caller,
    ):
        await caller.ask(ask(stream=phase.stream))
        await reached(upstream, caller, phase)
        left_at = time.monotonic()
        getattr(caller, leave)()
        closed_at = await upstream.closed(0)
        (record,) = await door.recorded()
        await eventually(lambda: door.app.app.in_flight == 0)

    assert closed_at - left_at < PROMISE_S
    assert ("499", "CALLER_CANCELLED") == (record["code"], record["reason"])


async def test_a_caller_who_leaves_while_sending_leaves_nothing_behind():
    """Half of a body, and then nobody."""
    async with running_door() as door, raw_caller(door) as caller:
        await caller.send(head("content-length: 100") + b"{")
        await eventually(lambda: door.app.app.in_flight == 1)
        caller.reset()
        (record,) = await door.recorded()
        await eventually(lambda: door.app.app.in_flight == 0)

    assert "CALLER_CANCELLED" == record["reason"]


async def test_a_caller_who_reads_nothing_is_dropped():
    """After the limit of a stalled write the provider is released and the connection is cut."""
    phase = PHASES[-1]
    async with (
        ScriptedUpstream(always(phase.answer)) as upstream,
        running_door(upstream.base_url, write_timeout_s=0.3) as door,
        raw_caller(door, receive_bytes=4096) as caller,
    ):
        await caller.ask(ask(stream=True))
        await upstream.closed(0)
        (record,) = await door.recorded()
        await caller.ended()

    assert ("408", "CALLER_STALLED") == (record["code"], record["reason"])


async def test_a_caller_who_does_not_take_a_whole_answer_is_cut_off():
    """A large answer does not wait in memory for ever."""
    text = "word " * 1_000_000
    whole = {"id": "o", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": text}}]}
    async with (
        ScriptedUpstream(always(json_answer(200, whole))) as upstream,
        running_door(upstream.base_url, write_timeout_s=0.3) as door,
        raw_caller(door, receive_bytes=4096) as caller,
    ):
        await caller.ask(ask())
        (record,) = await door.recorded()
        read = await caller.ended()

    assert len(read) < len(text)
    assert "CALLER_STALLED" == record["reason"]
