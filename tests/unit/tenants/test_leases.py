"""The leases of a replica, and the task that keeps Redis's record of them current."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from support.waiting import eventually
from togetherchat_server.tenants.redis import leases as leases_module
from togetherchat_server.tenants.redis.lease_renewer import LeaseRenewer
from togetherchat_server.tenants.redis.leases import Lease, LeaseRegistry

SHORT_S = 0.03
LONG_S = 3600.0


def sets(by_tenant):
    return {tenant: set(ids) for tenant, ids in by_tenant.items()}


def test_each_lease_has_its_own_id():
    """The leases of a replica are numbered, and the replica's name is unique."""
    ours, theirs = LeaseRegistry("one"), LeaseRegistry("two")
    created = [registry.new("acme") for registry in (ours, ours, theirs, theirs)]

    assert ["one:1", "one:2", "two:1", "two:2"] == [lease.id for lease in created]


def test_a_lease_is_held_then_ended_then_forgotten():
    """Leases are grouped by tenant, for one command each."""
    leases = LeaseRegistry("one")
    first, second, other = leases.new("acme"), leases.new("acme"), leases.new("globex")
    for lease in (first, second, other):
        leases.hold(lease)
    leases.end(first)
    ended = leases.ended()
    leases.end(other)
    leases.forget(ended)

    assert {"acme": {"one:2"}} == sets(leases.held())
    assert {"acme": {"one:1"}} == sets(ended)
    assert {"globex": {"one:3"}} == sets(leases.ended())


def test_a_lease_that_was_never_held_can_end():
    """This is the lease of a call that was cancelled while Redis decided."""
    leases = LeaseRegistry("one")
    leases.end(leases.new("acme"))

    assert ({}, {"acme": {"one:1"}}) == (sets(leases.held()), sets(leases.ended()))


def test_ended_leases_are_bounded(monkeypatch):
    """Beyond the bound a lease is left to expire; it is no longer held all the same."""
    monkeypatch.setattr(leases_module, "ENDED_MAX", 2)
    leases = LeaseRegistry("one")
    for lease in [leases.new("acme") for _ in range(3)]:
        leases.hold(lease)
    leases.end_all()

    assert {} == leases.held()
    assert 2 == len(leases.ended()["acme"])


class Redis:
    """Executes commands, or fails, and records them."""

    def __init__(self):
        self.available = True
        self.answers = asyncio.Event()
        self.answers.set()
        self.renewed = []
        self.deleted = []

    async def renew(self, held):
        await self.answers.wait()
        self.renewed.append(sets(held))
        return self.available

    async def delete(self, ended):
        await self.answers.wait()
        self.deleted.append(sets(ended))
        return self.available


@pytest.fixture
def redis():
    return Redis()


@asynccontextmanager
async def renewing(redis, lease_s):
    leases = LeaseRegistry("one")
    renewer = LeaseRenewer(
        leases, lease_s=lease_s, renew=redis.renew, delete=redis.delete, clock=time.monotonic
    )
    yield leases, renewer
    await renewer.aclose()


async def test_a_held_lease_is_renewed(redis):
    """As long as its call lasts, and no longer."""
    async with renewing(redis, SHORT_S) as (leases, renewer):
        lease = leases.new("acme")
        renewer.hold(lease)
        await eventually(lambda: len(redis.renewed) >= 3)
        renewer.release(lease)
        await eventually(lambda: redis.deleted)
        renewals = len(redis.renewed)
        await eventually(renewer._task.done)

    assert [{"acme": {"one:1"}}] * renewals == redis.renewed
    assert [{"acme": {"one:1"}}] == redis.deleted


async def test_an_ended_lease_is_deleted_at_once(redis):
    """Not at the next renewal, which is an hour later here."""
    async with renewing(redis, LONG_S) as (leases, renewer):
        held, ended = leases.new("acme"), leases.new("acme")
        renewer.hold(held)
        renewer.hold(ended)
        renewer.release(ended)
        await eventually(lambda: redis.deleted)
        before_close = list(redis.deleted)

    assert [{"acme": {"one:2"}}] == before_close
    assert [] == redis.renewed


async def test_leases_that_end_together_are_deleted_together(redis):
    """While Redis executes one command, ended leases gather: at most one command is in progress."""
    async with renewing(redis, LONG_S) as (leases, renewer):
        redis.answers.clear()
        for lease in [leases.new("acme") for _ in range(100)]:
            renewer.release(lease)
            await asyncio.sleep(0)
        redis.answers.set()
        await eventually(lambda: not leases.ended())

    assert 100 == sum(len(deleted["acme"]) for deleted in redis.deleted)
    assert len(redis.deleted) <= 2


async def test_a_lease_whose_deletion_fails_is_left_to_expire(redis):
    """The deletion is tried once more at the next renewal; then nothing is held, and the task ends."""
    redis.available = False
    async with renewing(redis, LONG_S) as (leases, renewer):
        renewer.release(leases.new("acme"))
        await eventually(lambda: redis.deleted)
        renewer.renew_now()
        await eventually(renewer._task.done)

    assert 2 == len(redis.deleted)
    assert {} == leases.ended()


async def test_an_unavailable_redis_gets_no_command_for_each_ended_lease(redis):
    """Ended leases gather, at no cost but their ids, until the next renewal or until Redis is available."""
    redis.available = False
    async with renewing(redis, LONG_S) as (leases, renewer):
        renewer.release(leases.new("acme"))
        await eventually(lambda: redis.deleted)
        for _ in range(100):
            renewer.release(leases.new("acme"))
            await asyncio.sleep(0)
        commands = len(redis.deleted)
        redis.available = True
        renewer.renew_now()
        await eventually(lambda: not leases.ended())

    assert 1 == commands
    assert [1, 101] == [len(deleted["acme"]) for deleted in redis.deleted]


async def test_held_leases_are_renewed_at_once_when_redis_is_available_again(redis):
    """Redis may have lost everything."""
    async with renewing(redis, LONG_S) as (leases, renewer):
        renewer.hold(leases.new("acme"))
        renewer.hold(leases.new("globex"))
        renewer.renew_now()
        await eventually(lambda: redis.renewed)

    assert [{"acme": {"one:1"}, "globex": {"one:2"}}] == redis.renewed


async def test_close_deletes_every_lease(redis):
    """Leases that are held later are ignored."""
    async with renewing(redis, LONG_S) as (leases, renewer):
        renewer.hold(leases.new("acme"))
    renewer.hold(Lease(tenant="acme", id="one:9"))

    assert [{"acme": {"one:1"}}] == redis.deleted
    assert renewer._task.done()
