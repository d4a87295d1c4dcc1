"""The quota of a tenant: what is counted, and the error for an exhausted limit."""

import asyncio
from contextlib import suppress

import pytest

from support.records import record
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.quota import TenantQuota
from togetherchat_server.tenants.quota_store import LocalQuotaStore, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.tenants_file import TenantsFile

LIMITS = """
[tenants.acme]
max_concurrent_calls = 1
requests_per_minute = 60
tokens_per_minute = 1000
"""
LEASE = Lease(tenant="acme", id="one:1")


class Replicas:
    """A store shared by replicas that returns the test's result, and records leases and tokens."""

    def __init__(self):
        self.result = None
        self.left = []
        self.spent = []

    async def enter(self, tenant, limits):
        return self.result

    def leave(self, lease):
        self.left.append(lease)

    def spend(self, tenant, tokens, limits):
        self.spent.append((tenant, tokens, limits.tokens_per_minute))


@pytest.fixture
def replicas():
    return Replicas()


@pytest.fixture
def quota(tmp_path, replicas):
    path = tmp_path / "tenants.toml"
    path.write_text(LIMITS)
    tenants = TenantsFile(path, clock=lambda: 0.0)
    return TenantQuota(tenants, LocalQuotaStore(), clock=lambda: 0.0, replicas=replicas)


def rejection_of(quota):
    with pytest.raises(ServiceError) as caught:
        quota.enter("acme")
    return caught.value


def test_an_exhausted_rate_has_a_retry_time(quota):
    """The time until tokens are available is known; when a call in flight ends is not."""
    quota.enter("acme")
    in_flight = rejection_of(quota)
    quota.leave("acme")
    quota.count_tokens(record(tenant="acme", prompt_tokens=1500, completion_tokens=500))
    tokens = rejection_of(quota)

    assert (Reason.CALLER_QUOTA, None) == (in_flight.reason, in_flight.retry_after_s)
    assert (Reason.CALLER_QUOTA, pytest.approx(60.06)) == (tokens.reason, tokens.retry_after_s)


def test_without_a_tenants_file_no_limit_applies():
    """Calls are counted all the same, so that a file that is set later finds them."""
    quota = TenantQuota(TenantsFile(None, clock=lambda: 0.0), LocalQuotaStore(), clock=lambda: 0.0)
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


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"tenant": "acme"}, [("acme", 7, 1000)]),
        ({"tenant": "acme", "prompt_tokens": None, "usage_estimated": True}, [("acme", 4, 1000)]),
        ({"tenant": "acme", "prompt_tokens": None, "completion_tokens": None}, []),
        ({"tenant": "globex"}, []),
        ({"tenant": ""}, []),
    ],
)
def test_the_tokens_of_a_call_are_counted(quota, replicas, usage, counted):
    """Those that are known, if the call failed; none for a tenant without a limit on tokens."""
    quota.count_tokens(record(**usage))

    assert counted == replicas.spent
