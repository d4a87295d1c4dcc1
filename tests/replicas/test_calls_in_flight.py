"""Calls in flight over replicas, by a real Redis: that they are counted, given back, and never lost."""

import asyncio
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from redis.asyncio import Redis

from support.command import ROOTS
from support.replicas import CALLS, PATIENT_S, empty, replica_end
from support.waiting import answered
from togetherchat_server.tenants.quota_store import QuotaMetric, QuotaRejection
from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.tenants_file import QuotaLimits

THREE = QuotaLimits(max_concurrent_calls=3)
PLENTY = QuotaLimits(max_concurrent_calls=10_000)
FULL = QuotaRejection(QuotaMetric.CALLS, None)
LONG_S = 60.0


async def now_s(within):
    seconds, microseconds = await within.time()
    return seconds + microseconds / 1e6


async def test_two_replicas_let_in_as_many_as_one_would(replicas):
    """Of twenty at once from two sides three; a place that one gives back, the other may take."""
    entered = await asyncio.gather(*(replicas[turn % 2].enter("acme", THREE) for turn in range(20)))
    places = [(turn % 2, one) for turn, one in enumerate(entered) if isinstance(one, Lease)]
    refused = [one for one in entered if not isinstance(one, Lease)]
    side, lease = places[0]
    replicas[side].leave(lease)

    async def let_in():
        one = await replicas[1 - side].enter("acme", THREE)
        return one if isinstance(one, Lease) else None

    await answered(let_in)
    assert (3, [FULL] * 17) == (len(places), refused)
    assert FULL == await replicas[side].enter("acme", THREE)
    assert isinstance(await replicas[side].enter("globex", THREE), Lease)


async def test_a_call_that_finds_no_place_costs_no_request(replicas):
    """And one that finds no request takes no place."""
    ours, theirs = replicas
    both = QuotaLimits(max_concurrent_calls=1, requests_per_minute=2)
    first = await ours.enter("acme", both)
    assert [FULL] * 5 == [await theirs.enter("acme", both) for _ in range(5)]
    ours.leave(first)

    async def second():
        one = await theirs.enter("acme", both)
        return one if isinstance(one, Lease) else None

    theirs.leave(await answered(second))

    async def without_a_request():
        one = await ours.enter("acme", both)
        return one if one != FULL else None

    assert QuotaMetric.REQUESTS is (await answered(without_a_request)).metric
    assert isinstance(await ours.enter("acme", QuotaLimits(max_concurrent_calls=1)), Lease)


async def test_what_nobody_keeps_up_is_forgotten(redis, within):
    """The key itself ends with the last lease, a second later at most."""
    end = replica_end(redis, lease_s=LONG_S)
    await end.enter("acme", THREE)
    life_s, ends_s, asked_s = (
        await within.ttl(CALLS),
        await within.zrange(CALLS, 0, -1, withscores=True),
        await now_s(within),
    )
    await end.aclose()

    assert 0 < life_s <= LONG_S + 1
    assert 0 < ends_s[0][1] - asked_s <= LONG_S
    assert await empty(within)


async def test_a_replica_that_is_killed_gives_its_calls_back(redis, within):
    """When the leases end that it kept up, and not before."""
    lease_s = 1.0
    program = Path(__file__).with_name("replica.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), redis.url, "acme", "3", str(lease_s),
        env={"PYTHONPATH": ":".join(ROOTS)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENT_S):
            await process.stdout.readline()
    finally:
        process.kill()
        await process.wait()
    ends_s = [end_s for _, end_s in await within.zrange(CALLS, 0, -1, withscores=True)]
    end = replica_end(redis, lease_s=lease_s)

    async def let_in():
        one = await end.enter("acme", THREE)
        return one if isinstance(one, Lease) else None

    await answered(let_in)
    let_in_s = await now_s(within)
    await end.aclose()

    assert 3 == len(ends_s)
    assert let_in_s >= min(ends_s)


async def test_a_call_that_outlasts_its_lease_keeps_its_place(redis, within):
    """Its replica puts the end off, before it comes, for as long as the call lasts."""
    ours, theirs = replica_end(redis, lease_s=3.0), replica_end(redis, lease_s=3.0)
    lease = await ours.enter("acme", QuotaLimits(max_concurrent_calls=1))
    first_end_s = await within.zscore(CALLS, lease.id)

    async def past_the_first_end():
        return True if await now_s(within) > first_end_s else None

    await answered(past_the_first_end)
    refused = await theirs.enter("acme", QuotaLimits(max_concurrent_calls=1))
    later_end_s = await within.zscore(CALLS, lease.id)
    ours.leave(lease)
    await answered(lambda: empty(within))
    await ours.aclose()
    await theirs.aclose()

    assert FULL == refused
    assert later_end_s > first_end_s


async def test_calls_go_on_without_redis_and_it_hears_of_them_when_it_is_back(redis):
    """Those from before, those let in meanwhile, and none that has ended; it had lost them all."""
    ours, theirs = replica_end(redis, lease_s=LONG_S), replica_end(redis, lease_s=LONG_S)
    before = [await ours.enter("acme", THREE) for _ in range(2)]
    await redis.stop()
    meanwhile = [await end.enter("acme", THREE) for end in (ours, theirs) for _ in range(3)]
    ours.leave(before[0])
    theirs.leave(meanwhile[-1])
    await redis.start()
    held = {lease.id for lease in (*before[1:], *meanwhile[:-1])}

    async with Redis.from_url(redis.url) as within:

        async def known():
            for end in (ours, theirs):
                await end.enter("globex", PLENTY)
            names = {name.decode() for name in await within.zrange(CALLS, 0, -1)}
            return names if names >= held else None

        names = await answered(known)
        refused = [await end.enter("acme", THREE) for end in (ours, theirs)]
    await ours.aclose()
    await theirs.aclose()

    assert all(isinstance(one, Lease) for one in meanwhile)
    assert held == names
    assert [FULL, FULL] == refused


async def test_calls_that_ended_while_redis_hung_are_given_back_when_it_goes_on(redis, within):
    """A moment without an answer costs nobody a place for the whole of a lease."""
    end = replica_end(redis, timeout_s=0.1, lease_s=LONG_S)
    limits = QuotaLimits(max_concurrent_calls=1)

    async def place():
        one = await end.enter("acme", limits)
        return one if isinstance(one, Lease) else None

    lease = await answered(place)
    redis.process.send_signal(signal.SIGSTOP)
    try:
        while not end.unavailable:
            await end.enter("globex", PLENTY)
        end.leave(lease)
    finally:
        redis.process.send_signal(signal.SIGCONT)

    async def asked():
        await end.enter("globex", PLENTY)
        return await empty(within)

    await answered(asked)
    await end.aclose()


async def test_a_storm_of_cancels_leaves_no_call_behind(redis, within):
    """Cancelled at every moment of the asking, or let in and left: none waits for its lease to end."""
    end, dice = replica_end(redis, lease_s=LONG_S), random.Random(7)
    let_in = []

    async def call():
        lease = await end.enter("acme", PLENTY)
        let_in.append(lease)
        try:
            await asyncio.sleep(0)
        finally:
            end.leave(lease)

    async def storm():
        task = asyncio.create_task(call())
        if dice.random() < 0.8:
            for _ in range(dice.randrange(60)):
                await asyncio.sleep(0)
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    for _ in range(20):
        await asyncio.gather(*(storm() for _ in range(50)))
    await answered(lambda: empty(within))
    await end.aclose()

    assert 0 < len(let_in) < 1000
