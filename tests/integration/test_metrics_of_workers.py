"""One scrape covers all workers of a real `--workers 2` server, even when they end."""

import asyncio
import os
import signal

from grpc import aio

from support.app import failing, request
from support.command import REASONABLE_S
from support.fleet import running_fleet
from support.scraping import scraped
from support.tenants import Keys, bearer, now_of
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.telemetry.metrics import definitions as names

# A heartbeat is an eighth of this: half a second.
HEARTBEAT_TIMEOUT = ("--worker-heartbeat-timeout-s", "4")
NO_RETRIES = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


async def call_all(fleet, *, connections, calls):
    """Make calls over separate connections, so that both workers get some."""

    async def on_one():
        async with aio.insecure_channel(fleet.grpc, options=NO_RETRIES) as channel:
            chat = service_grpc.ChatServiceStub(channel)
            for _ in range(calls):
                await chat.Complete(request(model="sandbox/fast"))

    await asyncio.gather(*(on_one() for _ in range(connections)))
    return connections * calls


async def page_when(fleet, condition):
    """Return the first page that meets the condition."""
    async with asyncio.timeout(REASONABLE_S):
        while not condition(page := await scraped(fleet.admin)):  # noqa: ASYNC110  polled over HTTP
            await asyncio.sleep(0.05)
    return page


async def test_one_scrape_is_the_sum_and_no_counter_decreases_when_a_worker_is_killed():
    """Calls before, during and after a `kill -9` and a rolling restart are all counted."""
    async with running_fleet(*HEARTBEAT_TIMEOUT) as fleet:
        calls = await call_all(fleet, connections=12, calls=3)
        before = await page_when(fleet, lambda page: page.value(names.CALLS) == calls)
        victim = min(await fleet.wait_until_serving())
        os.kill(victim, signal.SIGKILL)
        pids = await fleet.wait_until_serving(without={victim})
        killed = await page_when(fleet, lambda page: page.value(names.WORKERS, state="serving") == 2)
        calls += await call_all(fleet, connections=12, calls=1)
        after = await page_when(fleet, lambda page: page.value(names.CALLS) >= calls)
        os.kill(fleet.pid, signal.SIGHUP)
        await fleet.wait_until_serving(without=pids)
        rolled = await page_when(fleet, lambda page: page.value(names.WORKERS, state="serving") == 2)

    assert [calls] * 2 == [after.value(names.CALLS, code="OK"), rolled.value(names.CALLS)]
    assert calls == rolled.value("togetherchat_call_duration_seconds_bucket", le="+Inf")
    assert (
        0
        < before.value(names.PROCESS_CPU)
        <= killed.value(names.PROCESS_CPU)
        <= after.value(names.PROCESS_CPU)
        <= rolled.value(names.PROCESS_CPU)
    )
    assert [0, 1, 1, 1] == [page.value(names.WORKER_RESTARTS) for page in (before, killed, after, rolled)]
    assert {(): 0} == rolled.samples(names.CALLS_IN_FLIGHT)
    assert before.samples(names.MAX_CONCURRENT_CALLS) == after.samples(names.MAX_CONCURRENT_CALLS)


async def test_the_last_calls_of_a_stopping_worker_are_counted():
    """It sends its remaining counts before it ends, without waiting for the next heartbeat."""
    async with running_fleet("--worker-heartbeat-timeout-s", "800") as fleet:
        pids = await fleet.wait_until_serving()
        calls = await call_all(fleet, connections=6, calls=2)
        os.kill(fleet.pid, signal.SIGHUP)
        await fleet.wait_until_serving(without=pids)
        page = await page_when(fleet, lambda page: page.value(names.CALLS) >= calls)

    assert calls == page.value(names.CALLS)


async def test_a_hanging_worker_delays_no_scrape():
    """The supervisor's page shows what the worker sent last."""
    async with running_fleet(*HEARTBEAT_TIMEOUT) as fleet:
        calls = await call_all(fleet, connections=4, calls=1)
        await page_when(fleet, lambda page: page.value(names.CALLS) == calls)
        victim = min(await fleet.wait_until_serving())
        os.kill(victim, signal.SIGSTOP)
        page = await scraped(fleet.admin)
        await fleet.wait_until_serving(without={victim})

    assert calls == page.value(names.CALLS)


async def test_the_earliest_expiry_of_api_keys_is_that_of_all_workers(tmp_path):
    """Infinite while no key that is used expires, and the earliest once one is used."""
    keys = Keys(tmp_path / "keys")
    forever, ending = keys.create("acme"), keys.create("acme", "--expires", "2099-01-01")
    expiry_s = now_of("2099-01-01T00:00:00+00:00")
    async with running_fleet(*HEARTBEAT_TIMEOUT, "--api-keys-file", str(keys.path)) as fleet:

        async def shown(key, expected_s):
            async with aio.insecure_channel(fleet.grpc, options=NO_RETRIES) as channel:
                call = service_grpc.ChatServiceStub(channel).Complete
                await call(request(model="sandbox/fast"), metadata=bearer(key))
            await page_when(fleet, lambda page: page.samples(names.API_KEY_NOT_AFTER) == {(): expected_s})

        await shown(forever, float("inf"))
        await shown(ending, expiry_s)


async def test_failures_are_counted_by_reason():
    """Labels survive the way from the worker to the supervisor."""
    async with running_fleet(*HEARTBEAT_TIMEOUT, "--max-retries", "0") as fleet:
        async with aio.insecure_channel(fleet.grpc, options=NO_RETRIES) as channel:
            await failing(service_grpc.ChatServiceStub(channel).Complete(request(model="sandbox/error-503")))
        page = await page_when(fleet, lambda page: page.value(names.CALLS))

    assert 1 == page.value(names.CALLS, protocol="grpc", code="UNAVAILABLE", reason="UPSTREAM_OVERLOADED")
