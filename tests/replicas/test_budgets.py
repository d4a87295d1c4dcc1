"""Budgets over replicas, with a real Redis: killed, restarted empty, paused."""

import asyncio
import random
import secrets
import signal

from support.quotas import CENT, TODAY, TOMORROW
from support.replicas import replica_store
from support.waiting import poll
from togetherchat_server.tenants.quota_store import NOTHING, Claim, Grant, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.tenants_file import TenantLimits

LIMITS = TenantLimits(budget_usd_per_day=1, budget_usd_per_month=2)
SHORT_TIMEOUT_S = 0.5
LOCAL = Grant(TODAY, 7, 7)
"""What this machine's own store has granted."""


class Ledger:
    """What was spent before, as the ledger knows it."""

    def __init__(self, cents=0):
        self.cents = cents
        self.reads = 0

    async def __call__(self, tenant, period):
        self.reads += 1
        return self.cents * CENT, self.cents * CENT


def budget_store(redis, ledger=None, **more):
    return replica_store(redis, spent_before=ledger or Ledger(), **more)


class Attempts:
    """Attempts of one replica."""

    def __init__(self, store):
        self.store = store

    async def reserve(self, cents, *, local=LOCAL):
        """Return the id of the reservation, or the rejection."""
        attempt = secrets.token_hex(4)
        result = await self.store.reserve(attempt, "acme", claim(cents), LIMITS, local)
        return attempt if isinstance(result, Grant) else result

    async def settle(self, attempt, cents, used, *, period=TODAY):
        self.store.settle(attempt, "acme", claim(cents), claim(used), LIMITS, period)
        await self.store._reservations.flush()


def claim(cents):
    return Claim(nano_usd=cents * CENT)


async def spending(client):
    """The sums in Redis, in cents."""
    fields = await client.hgetall("togetherchat:{acme}:spending")
    return {
        name.decode(): int(value) // CENT
        for name, value in fields.items()
        if name.endswith((b"committed", b"reserved"))
    }


async def test_two_replicas_share_a_budget(redis, client):
    """What one reserves the other cannot; what was not used is available to both."""
    first, second = (budget_store(redis) for _ in range(2))
    ours, theirs = Attempts(first), Attempts(second)
    attempt = await ours.reserve(60)

    assert QuotaRejection(QuotaMetric.DAY_COST, None, 40 * CENT) == await theirs.reserve(41)
    await ours.settle(attempt, 60, 10)
    assert isinstance(await theirs.reserve(90), str)
    assert {
        "day_committed": 10,
        "day_reserved": 90,
        "month_committed": 10,
        "month_reserved": 90,
    } == await spending(client)
    await first.aclose()
    await second.aclose()


async def test_what_was_spent_before_is_loaded_once(redis):
    """By the first replica that needs it; every other finds it."""
    ledger = Ledger(cents=90)
    first, second = (budget_store(redis, ledger) for _ in range(2))

    assert QuotaRejection(QuotaMetric.DAY_COST, None, 10 * CENT) == await Attempts(first).reserve(11)
    assert isinstance(await Attempts(second).reserve(10), str)
    assert 1 == ledger.reads
    await first.aclose()
    await second.aclose()


async def test_a_new_day_begins_empty(redis):
    store = budget_store(redis)
    ours = Attempts(store)
    await ours.settle(await ours.reserve(100), 100, 100)

    assert QuotaMetric.DAY_COST is (await ours.reserve(1)).metric
    assert isinstance(await ours.reserve(100, local=Grant(TOMORROW)), str)
    await store.aclose()


async def test_the_reservation_of_a_dead_replica_counts_in_full(redis, client):
    """When its lease has expired: the provider may have billed the attempt."""
    dead, living = budget_store(redis, reservation_s=0.3), budget_store(redis)
    attempt = await Attempts(dead).reserve(70)
    await poll(lambda: committed_after_a_claim(living, client, 70))
    dead.settle(attempt, "acme", claim(70), claim(1), LIMITS, TODAY)
    await dead._reservations.flush()

    assert 70 == (await spending(client))["day_committed"]
    await dead.aclose()
    await living.aclose()


async def committed_after_a_claim(store, client, cents):
    """Return True if so much is committed, after a claim has looked at the leases; else None."""
    attempts = Attempts(store)
    attempt = await attempts.reserve(1)
    await attempts.settle(attempt, 1, 0)
    return (await spending(client))["day_committed"] == cents or None


async def test_a_cancelled_reservation_leaves_nothing_behind(redis, client):
    """Wherever the cancel comes."""
    store = budget_store(redis)
    ours = Attempts(store)
    await ours.settle(await ours.reserve(1), 1, 0)
    for turns in range(30):
        task = asyncio.create_task(ours.reserve(1))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        if isinstance(results[0], str):
            await ours.settle(results[0], 1, 0)
    await store._reservations.flush()

    assert {
        "day_committed": 0,
        "day_reserved": 0,
        "month_committed": 0,
        "month_reserved": 0,
    } == await spending(client)
    await store.aclose()


async def test_a_paused_redis_allows_a_small_part_of_the_budget(redis, client):
    """Five cents of a dollar; what they cost is sent when Redis continues, before it decides again."""
    store = budget_store(redis, timeout_s=SHORT_TIMEOUT_S, offline_ratio=0.05)
    ours = Attempts(store)
    await ours.settle(await ours.reserve(1), 1, 1)
    redis.process.send_signal(signal.SIGSTOP)
    offline = await ours.reserve(4)
    rejected = await ours.reserve(4)
    store.settle(offline, "acme", claim(4), claim(3), LIMITS, TODAY)
    redis.process.send_signal(signal.SIGCONT)
    sums = await poll(lambda: sums_with(client, store, ours, committed=4))

    assert isinstance(offline, str)
    assert (QuotaMetric.DAY_COST, 1 * CENT) == (rejected.metric, rejected.left)
    assert rejected.retry_after_s > 0
    assert 0 == sums["day_reserved"]
    await store.aclose()


async def sums_with(client, store, attempts, *, committed):
    """Return the sums when so much is committed, and nothing reserved; else None."""
    attempt = await attempts.reserve(1)
    if isinstance(attempt, str):
        await attempts.settle(attempt, 1, 0)
    sums = await spending(client)
    return sums if sums["day_committed"] == committed and sums["day_reserved"] == 0 else None


async def test_a_redis_that_was_restarted_empty_is_loaded_again(redis, client):
    """From the ledger; the attempts in flight are reserved in it again."""
    ledger = Ledger()
    store = budget_store(redis, ledger, timeout_s=SHORT_TIMEOUT_S)
    ours = Attempts(store)
    await ours.settle(await ours.reserve(20), 20, 20)
    in_flight = await ours.reserve(30)
    ledger.cents = 20
    await redis.stop()
    await redis.start()
    after = await poll(lambda: reserved_online(store, ours, client))
    sums = await spending(client)

    assert (20, 30) == (sums["day_committed"], sums["day_reserved"])
    await ours.settle(in_flight, 30, 25)
    assert 45 == (await spending(client))["day_committed"]
    assert isinstance(after, str)
    await store.aclose()


async def reserved_online(store, attempts, client):
    """Return the id of a reservation that Redis granted and that is settled again; None if it does not answer."""
    attempt = await attempts.reserve(1)
    if store.unavailable or not isinstance(attempt, str):
        store.settle(attempt, "acme", claim(1), NOTHING, LIMITS, TODAY)
        return None
    await attempts.settle(attempt, 1, 0)
    return attempt


async def test_no_order_of_events_exceeds_the_budget(redis, client):
    """Two hundred attempts at once over two replicas, with a random use: at most the budget, at least most of it."""
    stores = [budget_store(redis) for _ in range(2)]
    draw = random.Random(7)
    spent = []

    async def attempt(store):
        ours = Attempts(store)
        for _ in range(10):
            cents = draw.randint(1, 5)
            reservation = await ours.reserve(cents)
            if isinstance(reservation, str):
                await asyncio.sleep(draw.random() / 100)
                used = draw.randint(0, cents)
                spent.append(used)
                await ours.settle(reservation, cents, used)

    await asyncio.gather(*(attempt(stores[number % 2]) for number in range(200)))
    sums = await spending(client)

    assert 80 <= sum(spent) <= 100
    assert (sum(spent), 0) == (sums["day_committed"], sums["day_reserved"])
    for store in stores:
        await store.aclose()
