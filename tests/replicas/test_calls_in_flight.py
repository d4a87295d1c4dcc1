"""Calls in flight over replicas, with a real Redis: they are counted, released and never lost."""

import asyncio
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from redis.asyncio import Redis

from support.command import ROOTS
from support.replicas import CALLS, LONG_TIMEOUT_S, empty, replica_store
from support.waiting import poll
from togetherchat_server.tenants.quota_store import QuotaMetric, QuotaRejection
from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.tenants_file import QuotaLimits

THREE = QuotaLimits(max_concurrent_calls=3)
PLENTY = QuotaLimits(max_concurrent_calls=10_000)
FULL = QuotaRejection(QuotaMetric.CALLS, None)
LONG_S = 60.0


async def now_s(client):
    seconds, microseconds = await client.time()
    return seconds + microseconds / 1e6


async def test_two_replicas_admit_as_many_calls_as_one(replicas):
    """Of twenty simultaneous calls, three are admitted; the other replica may use a released lease."""
    entered = await asyncio.gather(*(replicas[number % 2].enter("acme", THREE) for number in range(20)))
    leases = [(number % 2, one) for number, one in enumerate(entered) if isinstance(one, Lease)]
    rejected = [one for one in entered if not isinstance(one, Lease)]
    side, lease = leases[0]
    replicas[side].leave(lease)

    async def admitted():
        one = await replicas[1 - side].enter("acme", THREE)
        return one if isinstance(one, Lease) else None

    await poll(admitted)
    assert (3, [FULL] * 17) == (len(leases), rejected)
    assert FULL == await replicas[side].enter("acme", THREE)
    assert isinstance(await replicas[side].enter("globex", THREE), Lease)


async def test_a_rejection_for_calls_in_flight_consumes_no_request(replicas):
    """And a rejection for requests takes no lease."""
    ours, theirs = replicas
    both = QuotaLimits(max_concurrent_calls=1, requests_per_minute=2)
    first = await ours.enter("acme", both)
    assert [FULL] * 5 == [await theirs.enter("acme", both) for _ in range(5)]
    ours.leave(first)

    async def second():
        one = await theirs.enter("acme", both)
        return one if isinstance(one, Lease) else None

    theirs.leave(await poll(second))

    async def without_a_request():
        one = await ours.enter("acme", both)
        return one if one != FULL else None

    assert QuotaMetric.REQUESTS is (await poll(without_a_request)).metric
    assert isinstance(await ours.enter("acme", QuotaLimits(max_concurrent_calls=1)), Lease)


async def test_a_lease_that_is_not_renewed_expires(redis, client):
    """The key itself expires at most a second after the last lease."""
    store = replica_store(redis, lease_s=LONG_S)
    await store.enter("acme", THREE)
    ttl_s, ends_s, read_s = (
        await client.ttl(CALLS),
        await client.zrange(CALLS, 0, -1, withscores=True),
        await now_s(client),
    )
    await store.aclose()

    assert 0 < ttl_s <= LONG_S + 1
    assert 0 < ends_s[0][1] - read_s <= LONG_S
    assert await empty(client)


async def test_the_calls_of_a_killed_replica_are_released(redis, client):
    """When its leases expire, and not before."""
    lease_s = 1.0
    program = Path(__file__).with_name("replica.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), redis.url, "acme", "3", str(lease_s),
        env={"PYTHONPATH": ":".join(ROOTS)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONG_TIMEOUT_S):
            await process.stdout.readline()
    finally:
        process.kill()
        await process.wait()
    ends_s = [end_s for _, end_s in await client.zrange(CALLS, 0, -1, withscores=True)]
    store = replica_store(redis, lease_s=lease_s)

    async def admitted():
        one = await store.enter("acme", THREE)
        return one if isinstance(one, Lease) else None

    await poll(admitted)
    admitted_s = await now_s(client)
    await store.aclose()

    assert 3 == len(ends_s)
    assert admitted_s >= min(ends_s)


async def test_a_lease_is_renewed_while_its_call_lasts(redis, client):
    """Its replica renews it before it expires."""
    ours, theirs = replica_store(redis, lease_s=3.0), replica_store(redis, lease_s=3.0)
    lease = await ours.enter("acme", QuotaLimits(max_concurrent_calls=1))
    first_end_s = await client.zscore(CALLS, lease.id)

    async def past_the_first_end():
        return True if await now_s(client) > first_end_s else None

    await poll(past_the_first_end)
    rejected = await theirs.enter("acme", QuotaLimits(max_concurrent_calls=1))
    later_end_s = await client.zscore(CALLS, lease.id)
    ours.leave(lease)
    await poll(lambda: empty(client))
    await ours.aclose()
    await theirs.aclose()

    assert FULL == rejected
    assert later_end_s > first_end_s


async def test_a_restarted_redis_receives_the_calls_in_flight(redis):
    """Those from before and those admitted meanwhile, and none that has ended: Redis had lost them all."""
    ours, theirs = replica_store(redis, lease_s=LONG_S), replica_store(redis, lease_s=LONG_S)
    before = [await ours.enter("acme", THREE) for _ in range(2)]
    await redis.stop()
    meanwhile = [await store.enter("acme", THREE) for store in (ours, theirs) for _ in range(3)]
    ours.leave(before[0])
    theirs.leave(meanwhile[-1])
    await redis.start()
    held = {lease.id for lease in (*before[1:], *meanwhile[:-1])}

    async with Redis.from_url(redis.url) as client:

        async def known():
            for store in (ours, theirs):
                await store.enter("globex", PLENTY)
            names = {name.decode() for name in await client.zrange(CALLS, 0, -1)}
            return names if names >= held else None

        names = await poll(known)
        rejected = [await store.enter("acme", THREE) for store in (ours, theirs)]
    await ours.aclose()
    await theirs.aclose()

    assert all(isinstance(one, Lease) for one in meanwhile)
    assert held == names
    assert [FULL, FULL] == rejected


async def test_calls_that_ended_while_redis_hung_are_released_when_it_continues(redis, client):
    """Their leases do not count until they expire."""
    store = replica_store(redis, timeout_s=0.1, lease_s=LONG_S)
    limits = QuotaLimits(max_concurrent_calls=1)

    async def leased():
        one = await store.enter("acme", limits)
        return one if isinstance(one, Lease) else None

    lease = await poll(leased)
    redis.process.send_signal(signal.SIGSTOP)
    try:
        while not store.unavailable:
            await store.enter("globex", PLENTY)
        store.leave(lease)
    finally:
        redis.process.send_signal(signal.SIGCONT)

    async def released():
        await store.enter("globex", PLENTY)
        return await empty(client)

    await poll(released)
    await store.aclose()


async def test_cancelled_calls_leave_no_lease_behind(redis, client):
    """Calls are cancelled at any moment of `enter`, or admitted and ended; no lease is left to expire."""
    store, dice = replica_store(redis, lease_s=LONG_S), random.Random(7)
    admitted = []

    async def call():
        lease = await store.enter("acme", PLENTY)
        admitted.append(lease)
        try:
            await asyncio.sleep(0)
        finally:
            store.leave(lease)

    async def cancel_at_random():
        task = asyncio.create_task(call())
        if dice.random() < 0.8:
            for _ in range(dice.randrange(60)):
                await asyncio.sleep(0)
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    for _ in range(20):
        await asyncio.gather(*(cancel_at_random() for _ in range(50)))
    await poll(lambda: empty(client))
    await store.aclose()

    assert 0 < len(admitted) < 1000
