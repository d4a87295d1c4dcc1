"""Tenants' limits over replicas, with a real Redis, and without Redis for a while."""

import asyncio
import signal
import time

from support.replicas import LONG_TIMEOUT_S, replica_store, use_tokens_together
from support.waiting import poll
from togetherchat_server.tenants.quota_store import QuotaMetric
from togetherchat_server.tenants.tenants_file import QuotaLimits


async def test_requests_are_counted_together(replicas):
    """Of a hundred simultaneous requests to two replicas, as many are admitted as one replica would admit."""
    limits, began_s = QuotaLimits(requests_per_minute=30), time.monotonic()
    rejections = await asyncio.gather(*(replicas[number % 2].enter("acme", limits) for number in range(100)))
    refilled = (time.monotonic() - began_s) / 2

    rejected = [rejection for rejection in rejections if rejection is not None]
    assert 30 <= 100 - len(rejected) <= 31 + refilled
    assert {QuotaMetric.REQUESTS} == {rejection.metric for rejection in rejected}
    assert all(0 < rejection.retry_after_s <= 2.1 for rejection in rejected)


async def test_tokens_are_counted_together(replicas):
    """The tokens that one replica's calls use delay the calls of another."""
    ours, theirs = replicas
    limits = QuotaLimits(tokens_per_minute=600)
    assert None is await ours.enter("acme", limits)
    await use_tokens_together(ours, 1800, limits)
    rejection = await poll(lambda: theirs.enter("acme", limits))

    assert QuotaMetric.TOKENS is rejection.metric
    assert 100 < rejection.retry_after_s <= 121
    assert None is await theirs.enter("globex", limits)


async def test_a_rejected_call_is_not_counted(replicas):
    """Without tokens, no request is consumed."""
    ours, _ = replicas
    both = QuotaLimits(requests_per_minute=2, tokens_per_minute=600)
    await use_tokens_together(ours, 6000, both)
    await poll(lambda: ours.enter("acme", QuotaLimits(tokens_per_minute=600)))
    for _ in range(5):
        assert QuotaMetric.TOKENS is (await ours.enter("acme", both)).metric

    requests = QuotaLimits(requests_per_minute=2)
    assert [None, None] == [await ours.enter("acme", requests) for _ in range(2)]


async def test_unused_keys_expire(redis, replicas):
    """Every key has a time to live."""
    ours, _ = replicas
    limits = QuotaLimits(requests_per_minute=60, tokens_per_minute=60)
    await ours.enter("acme", limits)
    await use_tokens_together(ours, 30, limits)
    client = ours._redis

    async def both():
        names = await client.keys("*")
        return names if len(names) == 2 else None

    names = await poll(both)
    ttls_s = [await client.ttl(name) for name in names]

    assert {b"togetherchat:{acme}:requests", b"togetherchat:{acme}:tokens"} == set(names)
    assert [True, True] == [1 <= ttl_s <= 32 for ttl_s in ttls_s]


async def test_an_unavailable_redis_is_logged_once_and_retried(redis, caplog):
    """Calls are admitted at once meanwhile. When Redis is available again it is used again."""
    now_s = [0.0]
    store = replica_store(redis, clock=lambda: now_s[0])
    limits = QuotaLimits(requests_per_minute=1)
    assert None is await store.enter("acme", limits)
    assert None is not await store.enter("acme", limits)
    await redis.stop()
    assert [None] * 5 == [await store.enter("acme", limits) for _ in range(5)]
    assert store.unavailable
    now_s[0] += 1
    assert None is await store.enter("acme", limits)
    await redis.start()
    assert store.unavailable
    now_s[0] += 1
    assert None is await store.enter("acme", limits)
    assert not store.unavailable
    assert None is not await store.enter("acme", limits)
    await store.aclose()

    assert ["Redis is unavailable", "Redis is available again"] == [
        record.message.partition(" (")[0].partition(":")[0] for record in caplog.records
    ]
    assert "canary-of-redis" not in caplog.text


async def test_a_redis_that_hangs_costs_one_timeout(redis):
    """A Redis that accepts a command and does not answer costs one call the timeout, and later calls nothing."""
    store = replica_store(redis, timeout_s=0.05, clock=lambda: 0.0)
    limits = QuotaLimits(requests_per_minute=1)
    redis.process.send_signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(LONG_TIMEOUT_S):
            assert [None] * 100 == [await store.enter("acme", limits) for _ in range(100)]
    finally:
        redis.process.send_signal(signal.SIGCONT)
    await store.aclose()
