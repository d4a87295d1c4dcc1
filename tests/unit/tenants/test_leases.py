"""The book of a replica's calls in flight, and the task that keeps Redis's copy of it true."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from support.waiting import eventually
from togetherchat_server.tenants.redis import leases as module
from togetherchat_server.tenants.redis.lease_renewer import LeaseRenewer
from togetherchat_server.tenants.redis.leases import Lease, LeaseRegistry

A_MOMENT_S = 0.03
LONG_S = 3600.0


def names(by_tenant):
    return {tenant: set(ids) for tenant, ids in by_tenant.items()}


def test_no_two_leases_have_one_name():
    """Of one replica they are numbered, and no other has its name."""
    ours, theirs = LeaseRegistry("one"), LeaseRegistry("two")
    made = [book.new("acme") for book in (ours, ours, theirs, theirs)]

    assert ["one:1", "one:2", "two:1", "two:2"] == [lease.id for lease in made]


def test_a_lease_is_held_then_gone_then_forgotten():
    """By tenant: one command each."""
    book = LeaseRegistry("one")
    first, second, other = book.new("acme"), book.new("acme"), book.new("globex")
    for lease in (first, second, other):
        book.hold(lease)
    book.give_back(first)
    gone = book.gone()
    book.give_back(other)
    book.forget(gone)

    assert {"acme": {"one:2"}} == names(book.held())
    assert {"acme": {"one:1"}} == names(gone)
    assert {"globex": {"one:3"}} == names(book.gone())


def test_a_lease_that_was_never_held_can_be_given_back():
    """Of a call that was cancelled while Redis decided."""
    book = LeaseRegistry("one")
    book.give_back(book.new("acme"))

    assert ({}, {"acme": {"one:1"}}) == (names(book.held()), names(book.gone()))


def test_what_waits_for_redis_has_a_bound(monkeypatch):
    """Beyond it a lease ends by itself; it is not held any more all the same."""
    monkeypatch.setattr(module, "GONE_MAX", 2)
    book = LeaseRegistry("one")
    for lease in [book.new("acme") for _ in range(3)]:
        book.hold(lease)
    book.give_back_all()

    assert {} == book.held()
    assert 2 == len(book.gone()["acme"])


class Redis:
    """Hears of leases, or does not, and remembers what it was told."""

    def __init__(self):
        self.hears = True
        self.heard = asyncio.Event()
        self.heard.set()
        self.renewed = []
        self.released = []

    async def renew(self, held):
        await self.heard.wait()
        self.renewed.append(names(held))
        return self.hears

    async def release(self, gone):
        await self.heard.wait()
        self.released.append(names(gone))
        return self.hears


@pytest.fixture
def redis():
    return Redis()


@asynccontextmanager
async def keeping(redis, lease_s):
    book = LeaseRegistry("one")
    keeper = LeaseRenewer(
        book, lease_s=lease_s, renew=redis.renew, release=redis.release, clock=time.monotonic
    )
    yield book, keeper
    await keeper.aclose()


async def test_a_lease_that_is_held_is_put_off_again_and_again(redis):
    """As long as its call lasts, and no longer."""
    async with keeping(redis, A_MOMENT_S) as (book, keeper):
        lease = book.new("acme")
        keeper.hold(lease)
        await eventually(lambda: len(redis.renewed) >= 3)
        keeper.give_back(lease)
        await eventually(lambda: redis.released)
        put_off = len(redis.renewed)
        await eventually(keeper._task.done)

    assert [{"acme": {"one:1"}}] * put_off == redis.renewed
    assert [{"acme": {"one:1"}}] == redis.released


async def test_what_ends_is_handed_back_at_once(redis):
    """Not when leases are put off the next time, which is an hour later here."""
    async with keeping(redis, LONG_S) as (book, keeper):
        held, ended = book.new("acme"), book.new("acme")
        keeper.hold(held)
        keeper.hold(ended)
        keeper.give_back(ended)
        await eventually(lambda: redis.released)
        before_its_end = list(redis.released)

    assert [{"acme": {"one:2"}}] == before_its_end
    assert [] == redis.renewed


async def test_what_ends_together_is_handed_back_together(redis):
    """While Redis hears of one, the others gather: at most one command is under way."""
    async with keeping(redis, LONG_S) as (book, keeper):
        redis.heard.clear()
        for lease in [book.new("acme") for _ in range(100)]:
            keeper.give_back(lease)
            await asyncio.sleep(0)
        redis.heard.set()
        await eventually(lambda: not book.gone())

    assert 100 == sum(len(released["acme"]) for released in redis.released)
    assert len(redis.released) <= 2


async def test_what_redis_does_not_hear_of_is_left_to_end_by_itself(redis):
    """It is told once more when leases are put off; then nothing is held, and the task ends."""
    redis.hears = False
    async with keeping(redis, LONG_S) as (book, keeper):
        keeper.give_back(book.new("acme"))
        await eventually(lambda: redis.released)
        keeper.renew_now()
        await eventually(keeper._task.done)

    assert 2 == len(redis.released)
    assert {} == book.gone()


async def test_a_redis_that_does_not_hear_is_not_told_of_each_end(redis):
    """They gather, at no cost but their names, until leases are put off or Redis is back."""
    redis.hears = False
    async with keeping(redis, LONG_S) as (book, keeper):
        keeper.give_back(book.new("acme"))
        await eventually(lambda: redis.released)
        for _ in range(100):
            keeper.give_back(book.new("acme"))
            await asyncio.sleep(0)
        told = len(redis.released)
        redis.hears = True
        keeper.renew_now()
        await eventually(lambda: not book.gone())

    assert 1 == told
    assert [1, 101] == [len(released["acme"]) for released in redis.released]


async def test_a_redis_that_is_back_hears_of_what_is_held_at_once(redis):
    """It may have lost everything."""
    async with keeping(redis, LONG_S) as (book, keeper):
        keeper.hold(book.new("acme"))
        keeper.hold(book.new("globex"))
        keeper.renew_now()
        await eventually(lambda: redis.renewed)

    assert [{"acme": {"one:1"}, "globex": {"one:2"}}] == redis.renewed


async def test_at_its_end_a_replica_hands_everything_back(redis):
    """And keeps nothing that comes later."""
    async with keeping(redis, LONG_S) as (book, keeper):
        keeper.hold(book.new("acme"))
    keeper.hold(Lease(tenant="acme", id="one:9"))

    assert [{"acme": {"one:1"}}] == redis.released
    assert keeper._task.done()
