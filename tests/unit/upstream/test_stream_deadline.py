"""One timer for the reads of a stream. Real time; the timeouts are short or never expire."""

import asyncio
import time
from contextlib import aclosing, asynccontextmanager

import pytest

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream.stream_deadline import StreamDeadline
from togetherchat_server.upstream.stream_timeouts import TIMEOUT_MESSAGES, StreamTimeouts

NEVER_S = 60.0
SOON_S = 0.05


@asynccontextmanager
async def timed(*, first_s=NEVER_S, idle_s=NEVER_S):
    timeouts = StreamTimeouts(
        started_s=time.monotonic(), first_token_timeout_s=first_s, idle_timeout_s=idle_s
    )
    async with StreamDeadline(timeouts, clock=time.monotonic) as deadline:
        yield timeouts, deadline


async def read(deadline, seconds=0.0):
    deadline.begin_read()
    await asyncio.sleep(seconds)
    deadline.end_read()


async def hang(deadline):
    deadline.begin_read()
    await asyncio.Event().wait()


async def hang_after_a_token(*, idle_s):
    async with timed(idle_s=idle_s) as (timeouts, deadline):
        await read(deadline)
        timeouts.event_arrived(time.monotonic())
        await hang(deadline)


async def failure_of(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    assert TIMEOUT_MESSAGES[caught.value.reason] == caught.value.message
    assert 0 == asyncio.current_task().cancelling()
    return caught.value.reason


@pytest.mark.parametrize("first_s", [SOON_S, 0.0, -1.0])
async def test_a_stream_without_a_token_fails_with_the_first_token_timeout(first_s):
    """A deadline that has passed already ends the read at its first wait."""

    async def stream():
        async with timed(first_s=first_s) as (_, deadline):
            await hang(deadline)

    began_s = time.monotonic()
    assert Reason.FIRST_TOKEN_TIMEOUT == await failure_of(stream())
    assert first_s <= time.monotonic() - began_s < NEVER_S / 2


async def test_after_the_first_token_the_idle_timeout_applies():
    """It ends earlier than the time for which the timer was set at first."""
    began_s = time.monotonic()
    assert Reason.STREAM_IDLE_TIMEOUT == await failure_of(hang_after_a_token(idle_s=SOON_S))
    assert SOON_S <= time.monotonic() - began_s < NEVER_S / 2


async def test_tokens_postpone_the_timeout():
    """A stream may last longer than the timeout, and the last read has the whole of it."""
    last_s = []

    async def stream():
        async with timed(idle_s=0.2) as (timeouts, deadline):
            began_s = time.monotonic()
            while time.monotonic() - began_s < 0.5:
                await read(deadline, 0.01)
                timeouts.event_arrived(time.monotonic())
            last_s.append(time.monotonic())
            await hang(deadline)

    assert Reason.STREAM_IDLE_TIMEOUT == await failure_of(stream())
    assert time.monotonic() - last_s[0] >= 0.19


async def test_nothing_is_cancelled_between_two_reads():
    """A slow caller is not the provider's silence, as long as there is something to read."""
    async with timed(idle_s=SOON_S) as (timeouts, deadline):
        await read(deadline)
        timeouts.event_arrived(time.monotonic())
        await asyncio.sleep(3 * SOON_S)
        deadline.begin_read()  # and bytes have arrived meanwhile
        deadline.end_read()
        timeouts.bytes_arrived(time.monotonic())
        await read(deadline, SOON_S / 10)


async def test_a_read_that_ends_in_the_iteration_of_its_timeout_has_succeeded():
    """The task is not cancelled afterwards, when it does something else."""
    async with timed(first_s=0.0) as (_, deadline):
        deadline.begin_read()
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the timer has fired, and has not cancelled the task yet
        deadline.end_read()
        await asyncio.sleep(SOON_S)


@pytest.mark.parametrize("idle_s", [NEVER_S, 0.0])
async def test_a_cancel_from_outside_passes_as_a_cancel(idle_s):
    """Also if it comes in the same iteration of the loop as the timeout."""
    for iterations in range(6):
        task = asyncio.create_task(hang_after_a_token(idle_s=idle_s))
        for _ in range(iterations):
            await asyncio.sleep(0)
        if task.done():
            assert isinstance(task.exception(), ServiceError)
            continue
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_another_task_may_close_a_generator_between_two_reads():
    """That is how the resources of a call are released whose caller does not read."""

    async def batches():
        async with timed(idle_s=SOON_S) as (timeouts, deadline):
            await read(deadline)
            timeouts.event_arrived(time.monotonic())
            yield "token"

    async with aclosing(batches()) as stream:
        assert "token" == await anext(stream)
        await asyncio.create_task(stream.aclose())
        await asyncio.sleep(3 * SOON_S)
