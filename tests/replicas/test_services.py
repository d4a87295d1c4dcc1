"""Whole services that share a Redis: what their callers see of it, and what the calls leave there."""

import asyncio
import random
import signal
from contextlib import asynccontextmanager

import grpc
import pytest

from support.app import failing, request, running_app
from support.replicas import CALLS, PATIENT_S, empty
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer
from support.upstream_script import Stall
from support.waiting import answered, eventually
from togetherchat.v1 import chat_service_pb2 as service


@pytest.fixture
def serving(redis, tmp_path):
    """Services with one file of keys and one of limits; `serving.text` is a key."""
    keys, path = Keys(tmp_path / "keys"), tmp_path / "tenants.toml"

    @asynccontextmanager
    async def served(base_url, limits, **settings):
        path.write_text(f"[default]\n{limits}")
        settings = {"redis_url": redis.url, "redis_timeout_s": PATIENT_S, **settings}
        async with running_app(
            base_url, api_keys_file=str(keys.path), tenants_file=str(path), **settings
        ) as app:
            yield app

    served.metadata = bearer(keys.create("acme"))
    return served


async def test_two_services_share_a_tenants_limits(redis, serving):
    """Four requests a minute, wherever they are asked; without Redis each counts alone, and serves."""
    four, quick = "requests_per_minute = 4", {"sandbox_tokens_per_second": 0}
    async with serving(None, four, **quick) as ours, serving(None, four, **quick) as theirs:

        def complete(app):
            return app.chat.Complete(request(max_tokens=1), metadata=serving.metadata)

        for app in (ours, ours, theirs, theirs):
            await complete(app)
        failure = await failing(complete(ours))
        await redis.stop()
        await complete(theirs)
        await eventually(lambda: "does not answer" in theirs.log.getvalue())

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
    assert "tenant acme has used up its 4 requests per minute" == failure.message
    assert "canary-of-redis" not in ours.log.getvalue() + theirs.log.getvalue()


async def test_two_services_share_a_tenants_places(serving):
    """A stream at one is a place less at the other; it is given back when its caller leaves."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        serving(upstream.base_url, "max_concurrent_calls = 1") as ours,
        serving(upstream.base_url, "max_concurrent_calls = 1") as theirs,
    ):
        stream = ours.chat.StreamComplete(request(), metadata=serving.metadata)
        reading = asyncio.create_task(stream.read())
        await upstream.asked(1)
        failure = await failing(theirs.chat.Complete(request(), metadata=serving.metadata))
        stream.cancel()
        await asyncio.wait({reading})

        async def let_in():
            call = theirs.chat.Complete(request(), metadata=serving.metadata)
            ended = asyncio.ensure_future(call.code())
            await eventually(lambda: ended.done() or len(upstream.ledger.requests) == 2)
            call.cancel()
            await ended
            return len(upstream.ledger.requests) == 2 or None

        await answered(let_in)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
    assert ("CALLER_QUOTA", "tenant acme has used up its 1 calls in flight") == (
        failure.info.reason,
        failure.message,
    )


async def test_the_requests_of_lists_of_models_are_shared(serving):
    """Two of any method a minute, wherever they are asked."""
    listing = service.ListModelsRequest(page_size=1)
    async with (
        serving(None, "requests_per_minute = 2") as ours,
        serving(None, "requests_per_minute = 2") as theirs,
    ):
        for app in (ours, theirs):
            await app.chat.ListModels(listing, metadata=serving.metadata)
        failure = await failing(ours.chat.ListModels(listing, metadata=serving.metadata))

    assert "tenant acme has used up its 2 requests per minute" == failure.message


async def test_cancelled_calls_of_a_service_leave_no_place_behind(serving, within):
    """Whole answers and streams, cancelled at any moment: long before a lease would end."""
    dice = random.Random(11)
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        serving(upstream.base_url, "max_concurrent_calls = 1000") as app,
    ):
        for turn in range(100):
            rpc = app.chat.Complete if turn % 2 else app.chat.StreamComplete
            call = rpc(request(), metadata=serving.metadata)
            waiting = asyncio.ensure_future(call.code())
            await asyncio.wait({waiting}, timeout=dice.random() * 0.02)
            call.cancel()
            await waiting
        await eventually(lambda: app.app.in_flight == 0)
        await answered(lambda: empty(within))


async def test_a_service_that_stops_leaves_no_place_behind(serving, within):
    """What its last calls held is given back before it is gone, and not when the leases would end."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        serving(upstream.base_url, "max_concurrent_calls = 10") as app,
    ):
        calls = [app.chat.StreamComplete(request(), metadata=serving.metadata) for _ in range(5)]
        reading = [asyncio.ensure_future(call.code()) for call in calls]
        await upstream.asked(5)
        held = await within.zcard(CALLS)
        for call in calls:
            call.cancel()
        await asyncio.wait(reading)

    assert (5, 0) == (held, await within.zcard(CALLS))


async def test_a_redis_that_hangs_costs_no_call_its_answer(redis, serving):
    """It is waited for as long as was set, and the call goes on."""
    settings = {"redis_timeout_s": 0.05, "sandbox_tokens_per_second": 0}
    async with serving(None, "max_concurrent_calls = 1", **settings) as app:
        redis.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                await app.chat.Complete(request(max_tokens=1), metadata=serving.metadata)
            assert "does not answer" in app.log.getvalue()
        finally:
            redis.process.send_signal(signal.SIGCONT)
