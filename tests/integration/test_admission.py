"""Calls beyond the bound: some wait a moment, the rest are refused before their message is read."""

import asyncio

import pytest

from support.app import collect, failing, grpc_timeout, request, running_app
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Stall, json_answer

WHOLE = {"id": "o", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}]}


async def answer(app):
    return await app.chat.Complete(request())


async def streamed(app):
    events, failure = await collect(app.chat.StreamComplete(request()))
    assert None is failure
    return events


async def waits(app, calls):
    """Wait until so many calls are in the queue."""
    async with asyncio.timeout(20):
        while app.app.queued < calls:  # noqa: ASYNC110  the service's own count
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ask", [answer, streamed])
async def test_a_call_that_waited_is_answered(ask):
    """The second call gets the place of the first; the third finds the queue full."""
    go = asyncio.Event()
    script = always((Pause(go), *json_answer(200, WHOLE)))
    limits = {"max_concurrent_calls": 1, "max_queued_calls": 1, "queue_timeout_s": 20}
    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url, **limits) as app:
        first = asyncio.ensure_future(ask(app))
        await upstream.asked()
        second = asyncio.ensure_future(ask(app))
        await waits(app, 1)
        third = await failing(app.chat.Complete(request()))
        go.set()
        answers = [await first, await second]

    assert "OVERLOADED" == third.info.reason
    if ask is answer:
        assert ["Hi", "Hi"] == [each.choices[0].message.content[0].text for each in answers]
        assert [False, True] == [each.usage.timings.queue_ms > 0 for each in answers]
    else:
        assert [4, 4] == [len(each) for each in answers]


async def test_a_call_that_waited_too_long_is_refused():
    """No place in time is OVERLOADED, with a wait for the caller; nothing was asked of the provider."""
    limits = {"max_concurrent_calls": 1, "max_queued_calls": 1, "queue_timeout_s": 0.05}
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, **limits) as app,
    ):
        first = app.chat.Complete(request())
        await upstream.asked()
        failure = await failing(app.chat.Complete(request()))
        first.cancel()

    assert ("OVERLOADED", 1) == (failure.info.reason, len(upstream.ledger.requests))
    assert int(failure.pushback) > 0


async def test_a_deadline_in_the_queue_is_the_callers():
    """Expired work is never begun."""
    limits = {"max_concurrent_calls": 1, "max_queued_calls": 1, "queue_timeout_s": 20}
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, **limits) as app,
    ):
        first = app.chat.Complete(request())
        await upstream.asked()
        failure = await failing(app.chat.Complete(request(), metadata=grpc_timeout(300)))
        first.cancel()

    assert ("CALLER_DEADLINE", 1) == (failure.info.reason, len(upstream.ledger.requests))


async def test_a_cancel_in_the_queue_gives_the_place_in_it_back():
    """Callers who leave while they wait leave nothing behind."""
    limits = {"max_concurrent_calls": 1, "max_queued_calls": 1, "queue_timeout_s": 20}
    go = asyncio.Event()
    script = always((Pause(go), *json_answer(200, WHOLE)))
    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url, **limits) as app:
        first = asyncio.ensure_future(answer(app))
        await upstream.asked()
        for _ in range(5):
            gone = app.chat.Complete(request())
            waiting = asyncio.ensure_future(gone.wait_for_connection())
            await waits(app, 1)
            gone.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            async with asyncio.timeout(20):
                while app.app.queued:  # noqa: ASYNC110  the service's own count
                    await asyncio.sleep(0.01)
        last = asyncio.ensure_future(answer(app))
        await waits(app, 1)
        go.set()
        await asyncio.gather(first, last)

    assert 2 == len(upstream.ledger.requests)


async def test_one_callers_key_has_its_own_bound():
    """A caller with too many calls is told so; another is served."""
    ours, theirs = ([("authorization", f"Bearer {key}")] for key in ("ours", "theirs"))
    limits = {"key": None, "upstream_credentials": "caller", "max_concurrent_calls_per_caller": 1}
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, **limits) as app,
    ):
        first = app.chat.Complete(request(), metadata=ours)
        await upstream.asked(1)
        failure = await failing(app.chat.Complete(request(), metadata=ours))
        other = app.chat.Complete(request(), metadata=theirs)
        await upstream.asked(2)
        first.cancel()
        other.cancel()

    assert "CALLER_QUOTA" == failure.info.reason
    assert {"QuotaFailure", "RetryInfo"} <= set(failure.details)
