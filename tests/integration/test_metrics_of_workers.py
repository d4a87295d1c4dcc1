"""One scrape for all workers of a real `--workers 2` server, whatever becomes of them."""

import asyncio
import os
import signal

from grpc import aio

from support.app import failing, request
from support.command import REASONABLE_S
from support.fleet import running_fleet
from support.scraping import scraped
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.telemetry.metrics import definitions as names

# A heartbeat is an eighth of it: half a second.
SILENCE = ("--worker-heartbeat-timeout-s", "4")
NO_RETRIES = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


async def call_all(fleet, *, connections, calls):
    """Each over a connection of its own, so that both workers get some."""

    async def on_one():
        async with aio.insecure_channel(fleet.rpc, options=NO_RETRIES) as channel:
            chat = service_grpc.ChatServiceStub(channel)
            for _ in range(calls):
                await chat.Complete(request(model="sandbox/fast"))

    await asyncio.gather(*(on_one() for _ in range(connections)))
    return connections * calls


async def shown(fleet, agreed):
    """The first page on which it is as wanted."""
    async with asyncio.timeout(REASONABLE_S):
        while not agreed(page := await scraped(fleet.admin)):  # noqa: ASYNC110  asked over HTTP
            await asyncio.sleep(0.05)
    return page


async def test_one_scrape_is_the_sum_and_no_counter_falls_when_a_worker_is_killed():
    """Calls before, through and after a `kill -9` and a rolling restart are all on the page."""
    async with running_fleet(*SILENCE) as fleet:
        made = await call_all(fleet, connections=12, calls=3)
        before = await shown(fleet, lambda page: page.value(names.CALLS) == made)
        victim = min(await fleet.all_serve())
        os.kill(victim, signal.SIGKILL)
        pids = await fleet.all_serve(without={victim})
        killed = await shown(fleet, lambda page: page.value(names.WORKERS, state="serving") == 2)
        made += await call_all(fleet, connections=12, calls=1)
        after = await shown(fleet, lambda page: page.value(names.CALLS) >= made)
        os.kill(fleet.pid, signal.SIGHUP)
        await fleet.all_serve(without=pids)
        rolled = await shown(fleet, lambda page: page.value(names.WORKERS, state="serving") == 2)

    assert [made] * 2 == [after.value(names.CALLS, code="OK"), rolled.value(names.CALLS)]
    assert made == rolled.value("togetherchat_call_duration_seconds_bucket", le="+Inf")
    assert (
        0
        < before.value(names.CPU)
        <= killed.value(names.CPU)
        <= after.value(names.CPU)
        <= rolled.value(names.CPU)
    )
    assert [0, 1, 1, 1] == [page.value(names.RESTARTS) for page in (before, killed, after, rolled)]
    assert {(): 0} == rolled.samples(names.IN_FLIGHT)
    assert before.samples(names.PLACES) == after.samples(names.PLACES)


async def test_the_last_calls_of_a_worker_that_leaves_are_counted():
    """It says what it counted before it goes: nothing waits for a heartbeat that does not come."""
    async with running_fleet("--worker-heartbeat-timeout-s", "800") as fleet:
        pids = await fleet.all_serve()
        made = await call_all(fleet, connections=6, calls=2)
        os.kill(fleet.pid, signal.SIGHUP)
        await fleet.all_serve(without=pids)
        page = await shown(fleet, lambda page: page.value(names.CALLS) >= made)

    assert made == page.value(names.CALLS)


async def test_a_worker_that_hangs_holds_up_no_scrape():
    """The page is the supervisor's own: it shows what was last told."""
    async with running_fleet(*SILENCE) as fleet:
        made = await call_all(fleet, connections=4, calls=1)
        await shown(fleet, lambda page: page.value(names.CALLS) == made)
        victim = min(await fleet.all_serve())
        os.kill(victim, signal.SIGSTOP)
        page = await scraped(fleet.admin)
        await fleet.all_serve(without={victim})

    assert made == page.value(names.CALLS)


async def test_failures_are_told_with_their_reasons():
    """Labels come through the socket as they are."""
    async with running_fleet(*SILENCE, "--max-retries", "0") as fleet:
        async with aio.insecure_channel(fleet.rpc, options=NO_RETRIES) as channel:
            await failing(service_grpc.ChatServiceStub(channel).Complete(request(model="sandbox/error-503")))
        page = await shown(fleet, lambda page: page.value(names.CALLS))

    assert 1 == page.value(names.CALLS, protocol="grpc", code="UNAVAILABLE", reason="UPSTREAM_OVERLOADED")
