"""Calls beyond the bound: a few are queued, the rest are rejected before their message is read."""

import asyncio

import pytest

from support import openai
from support.app import collect, failing, grpc_timeout, request, running_app
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Stall, json_response


async def complete(app):
    return await app.chat.Complete(request())


async def stream(app):
    events, failure = await collect(app.chat.StreamComplete(request()))
    assert None is failure
    return events


async def wait_until_queued(app, calls):
    """Wait until this many calls are in the queue."""
    async with asyncio.timeout(20):
        while app.app.queued < calls:  # noqa: ASYNC110  the service's own count
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("send", [complete, stream])
async def test_a_queued_call_is_served(send):
    """The second call gets the permit of the first; the third is rejected because the queue is full."""
    go = asyncio.Event()
    script = always((Pause(go), *json_response(200, openai.completion())))
    limits = {"max_concurrent_calls": 1, "max_queued_calls": 1, "queue_timeout_s": 20}
    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url, **limits) as app:
        first = asyncio.ensure_future(send(app))
        await upstream.received()
        second = asyncio.ensure_future(send(app))
        await wait_until_queued(app, 1)
        third = await failing(app.chat.Complete(request()))
        go.set()
        results = [await first, await second]

    assert "OVERLOADED" == third.info.reason
    if send is complete:
        assert ["Hi", "Hi"] == [result.choices[0].message.content[0].text for result in results]
        assert [False, True] == [result.timings.queue_duration.ToMicroseconds() > 0 for result in results]
    else:
        assert [4, 4] == [len(result) for result in results]


async def test_a_call_that_is_queued_too_long_is_rejected():
    """The failure is OVERLOADED with a delay; no request was sent to the provider."""
    limits = {"max_concurrent_calls": 1, "max_queued_calls": 1, "queue_timeout_s": 0.05}
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, **limits) as app,
    ):
        first = app.chat.Complete(request())
        await upstream.received()
        failure = await failing(app.chat.Complete(request()))
        first.cancel()

    assert ("OVERLOADED", 1) == (failure.info.reason, len(upstream.request_log.requests))
    assert int(failure.pushback) > 0


async def test_a_deadline_that_passes_in_the_queue_is_the_callers():
    """The expired call is never started."""
    limits = {"max_concurrent_calls": 1, "max_queued_calls": 1, "queue_timeout_s": 20}
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, **limits) as app,
    ):
        first = app.chat.Complete(request())
        await upstream.received()
        failure = await failing(app.chat.Complete(request(), metadata=grpc_timeout(2000)))
        first.cancel()

    assert ("CALLER_DEADLINE", 1) == (failure.info.reason, len(upstream.request_log.requests))


async def test_a_cancelled_call_leaves_the_queue():
    """Its entry in the queue is free for the next call."""
    limits = {"max_concurrent_calls": 1, "max_queued_calls": 1, "queue_timeout_s": 20}
    go = asyncio.Event()
    script = always((Pause(go), *json_response(200, openai.completion())))
    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url, **limits) as app:
        first = asyncio.ensure_future(complete(app))
        await upstream.received()
        for _ in range(5):
            cancelled = app.chat.Complete(request())
            waiting = asyncio.ensure_future(cancelled.wait_for_connection())
            await wait_until_queued(app, 1)
            cancelled.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            async with asyncio.timeout(20):
                while app.app.queued:  # noqa: ASYNC110  the service's own count
                    await asyncio.sleep(0.01)
        last = asyncio.ensure_future(complete(app))
        await wait_until_queued(app, 1)
        go.set()
        await asyncio.gather(first, last)

    assert 2 == len(upstream.request_log.requests)


async def test_each_callers_key_has_its_own_bound():
    """A caller with too many calls gets CALLER_QUOTA; another is served."""
    ours, theirs = ([("authorization", f"Bearer {key}")] for key in ("ours", "theirs"))
    limits = {"key": None, "upstream_credentials": "caller", "max_concurrent_calls_per_caller": 1}
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, **limits) as app,
    ):
        first = app.chat.Complete(request(), metadata=ours)
        await upstream.received(1)
        failure = await failing(app.chat.Complete(request(), metadata=ours))
        other = app.chat.Complete(request(), metadata=theirs)
        await upstream.received(2)
        first.cancel()
        other.cancel()

    assert "CALLER_QUOTA" == failure.info.reason
    assert {"QuotaFailure", "RetryInfo"} <= set(failure.details)
