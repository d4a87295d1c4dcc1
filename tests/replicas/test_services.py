"""Complete services that share a Redis: their responses, and the keys that their calls leave behind."""

import asyncio
import random
import signal
from contextlib import asynccontextmanager, suppress

import grpc
import pytest

from support.app import failing, request, running_app
from support.replicas import CALLS, LONG_TIMEOUT_S, empty
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer
from support.upstream_script import Stall
from support.waiting import eventually, poll
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_sandbox import Sandbox, SandboxSettings


@pytest.fixture
def serving(redis, tmp_path):
    """Services with one API keys file and one tenants file; `serving.metadata` has a key."""
    keys, path = Keys(tmp_path / "keys"), tmp_path / "tenants.toml"

    @asynccontextmanager
    async def service_with(base_url, limits, **settings):
        path.write_text(f"[default]\n{limits}")
        settings = {"redis_url": redis.url, "redis_timeout_s": LONG_TIMEOUT_S, **settings}
        async with running_app(
            base_url, api_keys_file=str(keys.path), tenants_file=str(path), **settings
        ) as app:
            yield app

    service_with.metadata = bearer(keys.create("acme"))
    return service_with


async def test_two_services_share_a_tenants_limits(redis, serving):
    """Four requests per minute over both; without Redis, each service counts alone."""
    four, quick = "requests_per_minute = 4", {"sandbox_tokens_per_second": 0}
    async with serving(None, four, **quick) as ours, serving(None, four, **quick) as theirs:

        def complete(app):
            return app.chat.Complete(request(max_tokens=1), metadata=serving.metadata)

        for app in (ours, ours, theirs, theirs):
            await complete(app)
        failure = await failing(complete(ours))
        await redis.stop()
        await complete(theirs)
        await eventually(lambda: "Redis is unavailable" in theirs.log.getvalue())

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
    assert "tenant acme has used up its 4 requests per minute" == failure.message
    assert "canary-of-redis" not in ours.log.getvalue() + theirs.log.getvalue()


async def test_two_services_share_a_tenants_calls_in_flight(serving):
    """A stream at one counts at the other; it is released when its caller cancels."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        serving(upstream.base_url, "max_concurrent_calls = 1") as ours,
        serving(upstream.base_url, "max_concurrent_calls = 1") as theirs,
    ):
        stream = ours.chat.StreamComplete(request(), metadata=serving.metadata)
        reading = asyncio.create_task(stream.read())
        await upstream.received(1)
        failure = await failing(theirs.chat.Complete(request(), metadata=serving.metadata))
        stream.cancel()
        await asyncio.wait({reading})

        async def admitted():
            call = theirs.chat.Complete(request(), metadata=serving.metadata)
            ended = asyncio.ensure_future(call.code())
            await eventually(lambda: ended.done() or len(upstream.request_log.requests) == 2)
            call.cancel()
            await ended
            return len(upstream.request_log.requests) == 2 or None

        await poll(admitted)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
    assert ("CALLER_QUOTA", "tenant acme has used up its 1 calls in flight") == (
        failure.info.reason,
        failure.message,
    )


async def test_the_requests_of_lists_of_models_are_shared(serving):
    """Two requests of any method per minute over both services."""
    listing = service.ListModelsRequest(page_size=1)
    async with (
        serving(None, "requests_per_minute = 2") as ours,
        serving(None, "requests_per_minute = 2") as theirs,
    ):
        await ours.chat.ListModels(listing, metadata=serving.metadata)
        one = service.GetModelRequest(id="openai/gpt-oss-120b")
        await theirs.chat.GetModel(one, metadata=serving.metadata)
        failure = await failing(ours.chat.ListModels(listing, metadata=serving.metadata))

    assert "tenant acme has used up its 2 requests per minute" == failure.message


async def test_cancelled_calls_of_a_service_leave_no_lease_behind(serving, client):
    """Unary calls and streams, cancelled at any moment, long before a lease would expire."""
    dice = random.Random(11)
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        serving(upstream.base_url, "max_concurrent_calls = 1000") as app,
    ):
        for number in range(100):
            rpc = app.chat.Complete if number % 2 else app.chat.StreamComplete
            call = rpc(request(), metadata=serving.metadata)
            waiting = asyncio.ensure_future(call.code())
            await asyncio.wait({waiting}, timeout=dice.random() * 0.02)
            call.cancel()
            await waiting
        await eventually(lambda: app.app.in_flight == 0)
        await poll(lambda: empty(client))


async def test_a_service_that_stops_leaves_no_lease_behind(serving, client):
    """Its last leases are deleted before it exits, and need not expire."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        serving(upstream.base_url, "max_concurrent_calls = 10") as app,
    ):
        calls = [app.chat.StreamComplete(request(), metadata=serving.metadata) for _ in range(5)]
        reading = [asyncio.ensure_future(call.code()) for call in calls]
        await upstream.received(5)
        held = await client.zcard(CALLS)
        for call in calls:
            call.cancel()
        await asyncio.wait(reading)

    assert (5, 0) == (held, await client.zcard(CALLS))


async def test_a_redis_that_hangs_fails_no_call(redis, serving):
    """A call waits for `redis_timeout_s`, and then continues."""
    settings = {"redis_timeout_s": 0.05, "sandbox_tokens_per_second": 0}
    async with serving(None, "max_concurrent_calls = 1", **settings) as app:
        redis.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                await app.chat.Complete(request(max_tokens=1), metadata=serving.metadata)
            assert "Redis is unavailable" in app.log.getvalue()
        finally:
            redis.process.send_signal(signal.SIGCONT)


async def test_two_services_share_a_tenants_budget(serving, tmp_path):
    """Two hundred callers over both, who repeat what is rejected: most of the budget is used, never more."""
    settings = {
        "usage_database": f"sqlite:///{tmp_path}/usage.sqlite",
        "max_queued_calls": 1000,
        "queue_timeout_s": 30.0,
    }
    fast = SandboxSettings(first_token_ms=0, tokens_per_second=0)
    async with (
        Sandbox(fast) as sandbox,
        serving(sandbox.base_url, "budget_usd_per_day = 0.1", **settings) as ours,
        serving(sandbox.base_url, "budget_usd_per_day = 0.1", **settings) as theirs,
    ):
        message = request(max_tokens=100, model="moonshotai/Kimi-K3")

        async def calls(app):
            for _ in range(8):
                with suppress(grpc.aio.AioRpcError):
                    await app.chat.Complete(message, metadata=serving.metadata)

        await asyncio.gather(*(calls((ours, theirs)[number % 2]) for number in range(200)))
        quotas = ours.app._wiring._tenancy.quotas

        async def settled():
            (day,) = [one for one in await quotas.statuses(["acme"]) if one.bucket == "budget_usd_per_day"]
            return day if not day.reserved else None

        day = await poll(settled)

    assert day.used == sandbox.bill.nano_usd
    assert 80_000_000 <= day.used <= 100_000_000
