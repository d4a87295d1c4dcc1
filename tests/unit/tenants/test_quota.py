"""The quota of a tenant: what is counted, and the error for an exhausted limit."""

import asyncio
from contextlib import suppress

import pytest

from support.calls import call_of
from support.quotas import NOON_US, use_tokens
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.budget_watch import BudgetWatch
from togetherchat_server.tenants.quota import TenantQuota
from togetherchat_server.tenants.quota_store import Claim, LocalQuotaStore, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.tenants_file import TenantsFile

LIMITS = """
[tenants.acme]
max_concurrent_calls = 1
requests_per_minute = 60
tokens_per_minute = 1000
"""
LEASE = Lease(tenant="acme", id="one:1")


def watch():
    return BudgetWatch(wall_clock=lambda: NOON_US / 1e6)


class Replicas:
    """A store shared by replicas that returns the test's result, and records leases and settlements."""

    def __init__(self):
        self.result = None
        self.left = []
        self.settled = []

    async def enter(self, tenant, limits):
        return self.result

    def leave(self, lease):
        self.left.append(lease)

    async def reserve(self, reservation_id, tenant, claim, limits, local):
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result or local

    def settle(self, reservation_id, tenant, claim, used, limits, period):
        self.settled.append((tenant, used))


@pytest.fixture
def replicas():
    return Replicas()


@pytest.fixture
def store():
    return LocalQuotaStore()


@pytest.fixture
def quota(tmp_path, store, replicas):
    path = tmp_path / "tenants.toml"
    path.write_text(LIMITS)
    tenants = TenantsFile(path, clock=lambda: 0.0)
    return TenantQuota(tenants, store, clock=lambda: 0.0, lease_s=600.0, budgets=watch(), replicas=replicas)


def rejection_of(quota):
    with pytest.raises(ServiceError) as caught:
        quota.enter("acme")
    return caught.value


def test_an_exhausted_rate_has_a_retry_time(quota, store):
    """The time until tokens are available is known; when a call in flight ends is not."""
    quota.enter("acme")
    in_flight = rejection_of(quota)
    quota.leave("acme")
    use_tokens(store, "acme", 2000, quota.limits_of("acme"))
    tokens = rejection_of(quota)

    assert (Reason.CALLER_QUOTA, None) == (in_flight.reason, in_flight.retry_after_s)
    assert (Reason.CALLER_QUOTA, pytest.approx(60.06)) == (tokens.reason, tokens.retry_after_s)


def test_without_a_tenants_file_no_limit_applies():
    """Calls are counted all the same, so that a file that is set later finds them."""
    quota = TenantQuota(
        TenantsFile(None, clock=lambda: 0.0),
        LocalQuotaStore(),
        clock=lambda: 0.0,
        lease_s=1.0,
        budgets=watch(),
    )
    for _ in range(1000):
        quota.enter("acme")
    for _ in range(1000):
        quota.leave("acme")


async def test_a_rejection_by_the_shared_store_has_the_same_message(quota, replicas):
    """A caller need not know which store counted."""
    replicas.result = QuotaRejection(QuotaMetric.REQUESTS, 3.5)
    with pytest.raises(ServiceError) as caught:
        async with quota.in_replicas("acme"):
            raise AssertionError("the call was admitted")

    assert (Reason.CALLER_QUOTA, 3.5) == (caught.value.reason, caught.value.retry_after_s)
    assert "tenant acme has used up its 60 requests per minute" == caught.value.message
    assert [] == replicas.left


@pytest.mark.parametrize(("result", "left"), [(LEASE, [LEASE]), (None, [])])
@pytest.mark.parametrize("failure", [None, ServiceError(Reason.OVERLOADED, "no"), asyncio.CancelledError()])
async def test_a_lease_is_released_once_when_its_call_ends(quota, replicas, result, left, failure):
    """However the call ends, and not before; without a lease nothing is released."""
    replicas.result = result
    before = None
    with suppress(ServiceError, asyncio.CancelledError):
        async with quota.in_replicas("acme"):
            before = list(replicas.left)
            if failure is not None:
                raise failure

    assert ([], left) == (before, replicas.left)


async def test_an_attempt_settles_once_in_both_stores(quota, store, replicas):
    """However often it ends."""
    limits = quota.limits_of("acme")
    reservation = await quota.reserve(call_of("acme"), Claim(tokens=900), limits)
    reservation.settle(Claim(tokens=7))
    reservation.settle(Claim(tokens=900))

    assert [("acme", Claim(tokens=7))] == replicas.settled
    assert 0 == quota.reservations
    use_tokens(store, "acme", 993, limits)


@pytest.mark.parametrize(
    ("result", "raised"),
    [
        (QuotaRejection(QuotaMetric.TOKENS, 2.0, 5), ServiceError),
        (asyncio.CancelledError(), asyncio.CancelledError),
    ],
)
async def test_what_the_shared_store_does_not_grant_is_not_reserved_here(
    quota, store, replicas, result, raised
):
    """Nor if the call is cancelled while it waits for that store."""
    limits = quota.limits_of("acme")
    replicas.result = result
    with pytest.raises(raised):
        await quota.reserve(call_of("acme"), Claim(tokens=900), limits)

    assert 0 == quota.reservations
    use_tokens(store, "acme", 1000, limits)


async def test_a_leaked_reservation_is_settled_in_full(tmp_path, store):
    """After the longest call and a margin, with the next reservation; settled later, it changes nothing."""
    path, now_s = tmp_path / "tenants.toml", 0.0
    path.write_text(LIMITS)
    quota = TenantQuota(
        TenantsFile(path, clock=lambda: 0.0), store, clock=lambda: now_s, lease_s=600.0, budgets=watch()
    )
    limits = quota.limits_of("acme")
    leaked = await quota.reserve(call_of("acme"), Claim(tokens=10), limits)
    now_s = 661.0
    await quota.reserve(call_of("acme"), Claim(tokens=10), limits)
    leaked.settle(Claim())

    assert (1, 1) == (quota.leaked, quota.reservations)
