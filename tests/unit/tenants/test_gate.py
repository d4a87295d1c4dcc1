"""The gate: what is counted, what is booked, and what a caller hears."""

import asyncio
from contextlib import suppress

import pytest

from support.records import record
from support.tenants import Keys
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.gate import Gate, GateFiles
from togetherchat_server.tenants.quota_store import LocalQuotaStore, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.redis.leases import Lease

LIMITS = """
[tenants.acme]
max_concurrent_calls = 1
requests_per_minute = 60
tokens_per_minute = 1000
"""


LEASE = Lease(tenant="acme", id="one:1")


class Replicas:
    """Accounts elsewhere, that answer as the test says and remember what was booked and given back."""

    def __init__(self):
        self.answer = None
        self.left = []
        self.spent = []

    async def enter(self, tenant, limits):
        return self.answer

    def leave(self, lease):
        self.left.append(lease)

    def spend(self, tenant, tokens, limits):
        self.spent.append((tenant, tokens, limits.tokens_per_minute))


@pytest.fixture
def replicas():
    return Replicas()


@pytest.fixture
def gate(tmp_path, replicas):
    keys = Keys(tmp_path / "keys")
    keys.create("acme")
    limits = tmp_path / "tenants.toml"
    limits.write_text(LIMITS)
    return Gate(
        GateFiles(keys=keys.path, limits=limits),
        LocalQuotaStore(),
        clock=lambda: 0.0,
        wall_clock=lambda: 0.0,
        aliases={},
        replicas=replicas,
    )


def refusal_of(gate):
    with pytest.raises(ServiceError) as caught:
        gate.enter("acme")
    return caught.value


def test_a_limit_that_time_mends_says_when(gate):
    """Of tokens it is known when there will be some; of calls in flight nobody knows."""
    gate.enter("acme")
    in_flight = refusal_of(gate)
    gate.leave("acme")
    gate(record(tenant="acme", prompt_tokens=1500, completion_tokens=500))
    tokens = refusal_of(gate)

    assert (Reason.CALLER_QUOTA, None) == (in_flight.reason, in_flight.retry_after_s)
    assert (Reason.CALLER_QUOTA, pytest.approx(60.06)) == (tokens.reason, tokens.retry_after_s)


async def test_what_replicas_refuse_is_refused_in_the_same_words(gate, replicas):
    """A caller need not know who counted."""
    replicas.answer = QuotaRejection(QuotaMetric.REQUESTS, 3.5)
    with pytest.raises(ServiceError) as caught:
        async with gate.in_replicas("acme"):
            raise AssertionError("it was let in")

    assert (Reason.CALLER_QUOTA, 3.5) == (caught.value.reason, caught.value.retry_after_s)
    assert "tenant acme has used up its 60 requests per minute" == caught.value.message
    assert [] == replicas.left


@pytest.mark.parametrize(("answer", "left"), [(LEASE, [LEASE]), (None, [])])
@pytest.mark.parametrize("failure", [None, ServiceError(Reason.OVERLOADED, "no"), asyncio.CancelledError()])
async def test_a_place_of_all_replicas_is_given_back_once(gate, replicas, answer, left, failure):
    """When its call ends, whatever way, and not before; where nothing is held there is nothing to give."""
    replicas.answer = answer
    before = None
    with suppress(ServiceError, asyncio.CancelledError):
        async with gate.in_replicas("acme"):
            before = list(replicas.left)
            if failure is not None:
                raise failure

    assert ([], left) == (before, replicas.left)


@pytest.mark.parametrize(
    ("used", "booked"),
    [
        ({"tenant": "acme"}, [("acme", 7, 1000)]),
        ({"tenant": "acme", "prompt_tokens": None, "usage_estimated": True}, [("acme", 4, 1000)]),
        ({"tenant": "acme", "prompt_tokens": None, "completion_tokens": None}, []),
        ({"tenant": "globex"}, []),
        ({"tenant": ""}, []),
    ],
)
def test_what_a_call_used_is_booked(gate, replicas, used, booked):
    """What is known of it, where it broke off; nothing for who has no limit on tokens."""
    gate(record(**used))

    assert booked == replicas.spent
