"""Limits of tenants over replicas, by a real Redis: that they hold, and that Redis may go and come."""

import asyncio
import signal
import time

from support.replicas import PATIENT_S, replica_end
from support.waiting import answered
from togetherchat_server.tenants.quota_store import QuotaMetric
from togetherchat_server.tenants.tenants_file import QuotaLimits


async def test_requests_are_counted_together(replicas):
    """Of a hundred from two sides at once as many are let in as one side would let in."""
    limits, began_s = QuotaLimits(requests_per_minute=30), time.monotonic()
    rejections = await asyncio.gather(*(replicas[turn % 2].enter("acme", limits) for turn in range(100)))
    brought = (time.monotonic() - began_s) / 2

    refused = [rejection for rejection in rejections if rejection is not None]
    assert 30 <= 100 - len(refused) <= 31 + brought
    assert {QuotaMetric.REQUESTS} == {rejection.metric for rejection in refused}
    assert all(0 < rejection.retry_after_s <= 2.1 for rejection in refused)


async def test_tokens_are_counted_together(replicas):
    """What one replica's calls used, another one's wait for."""
    ours, theirs = replicas
    limits = QuotaLimits(tokens_per_minute=600)
    assert None is await ours.enter("acme", limits)
    ours.spend("acme", 1800, limits)
    rejection = await answered(lambda: theirs.enter("acme", limits))

    assert QuotaMetric.TOKENS is rejection.metric
    assert 100 < rejection.retry_after_s <= 121
    assert None is await theirs.enter("globex", limits)


async def test_what_is_refused_costs_nothing(replicas):
    """Without tokens no request is taken."""
    ours, _ = replicas
    both = QuotaLimits(requests_per_minute=2, tokens_per_minute=600)
    ours.spend("acme", 6000, both)
    await answered(lambda: ours.enter("acme", QuotaLimits(tokens_per_minute=600)))
    for _ in range(5):
        assert QuotaMetric.TOKENS is (await ours.enter("acme", both)).metric

    requests = QuotaLimits(requests_per_minute=2)
    assert [None, None] == [await ours.enter("acme", requests) for _ in range(2)]


async def test_what_nobody_uses_is_forgotten(redis, replicas):
    """Every key of ours ends by itself."""
    ours, _ = replicas
    limits = QuotaLimits(requests_per_minute=60, tokens_per_minute=60)
    await ours.enter("acme", limits)
    ours.spend("acme", 30, limits)
    client = ours._redis

    async def both():
        names = await client.keys("*")
        return names if len(names) == 2 else None

    names = await answered(both)
    lives_s = [await client.ttl(name) for name in names]

    assert {b"togetherchat:{acme}:requests", b"togetherchat:{acme}:tokens"} == set(names)
    assert [True, True] == [1 <= life_s <= 32 for life_s in lives_s]


async def test_a_lost_redis_is_said_once_and_asked_again(redis, caplog):
    """Calls are let in at once meanwhile; when it is back it is used again, by itself."""
    now_s = [0.0]
    end = replica_end(redis, clock=lambda: now_s[0])
    limits = QuotaLimits(requests_per_minute=1)
    assert None is await end.enter("acme", limits)
    assert None is not await end.enter("acme", limits)
    await redis.stop()
    assert [None] * 5 == [await end.enter("acme", limits) for _ in range(5)]
    assert 1 == end.unavailable
    now_s[0] += 1
    assert None is await end.enter("acme", limits)
    await redis.start()
    assert 1 == end.unavailable
    now_s[0] += 1
    assert None is await end.enter("acme", limits)
    assert 0 == end.unavailable
    assert None is not await end.enter("acme", limits)
    await end.aclose()

    assert ["does not answer", "answers again"] == [
        "does not answer" if "does not answer" in record.message else "answers again"
        for record in caplog.records
    ]
    assert "canary-of-redis" not in caplog.text


async def test_a_redis_that_hangs_is_waited_for_a_moment(redis):
    """One that takes the question and does not answer costs the patience once, and then nothing."""
    end = replica_end(redis, timeout_s=0.05, clock=lambda: 0.0)
    limits = QuotaLimits(requests_per_minute=1)
    redis.process.send_signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENT_S):
            assert [None] * 100 == [await end.enter("acme", limits) for _ in range(100)]
    finally:
        redis.process.send_signal(signal.SIGCONT)
    await end.aclose()
