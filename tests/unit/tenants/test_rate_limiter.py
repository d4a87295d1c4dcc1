"""So many per minute, by a clock that is handed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from togetherchat_server.tenants.policy import TenantLimits
from togetherchat_server.tenants.quota_store import LocalQuotaStore, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.rate_limiter import consume, wait_s


class Taker:
    """One account of so many per minute."""

    def __init__(self, per_minute):
        self.per_minute, self.until_s = per_minute, 0.0

    def take(self, now_s):
        waiting_s = wait_s(self.until_s, now_s, self.per_minute)
        if not waiting_s:
            self.until_s = consume(self.until_s, now_s, self.per_minute, 1)
        return waiting_s


@pytest.mark.parametrize("per_minute", [1, 3, 7, 60, 600, 1001])
def test_a_minutes_share_may_be_had_at_once(per_minute):
    """And not one more, however the fractions add up."""
    account = Taker(per_minute)

    assert [0.0] * per_minute == [account.take(1e6) for _ in range(per_minute)]
    assert pytest.approx(60 / per_minute) == account.take(1e6)


def test_what_was_waited_for_is_given():
    """Coming back after the time that was named is enough; a little sooner is not."""
    account = Taker(60)
    for _ in range(60):
        account.take(0.0)
    waiting_s = account.take(0.0)

    assert account.take(waiting_s - 0.1)
    assert not account.take(waiting_s)


@given(
    st.integers(1, 500),
    st.lists(st.floats(0, 30), min_size=1, max_size=300),
)
def test_over_any_span_no_more_than_the_share_and_what_the_span_brings(per_minute, pauses):
    """The law of the algorithm, over any arrivals."""
    account, now_s, taken = Taker(per_minute), 0.0, []
    for pause in pauses:
        now_s += pause
        if not account.take(now_s):
            taken.append(now_s)

    for start in range(len(taken)):
        for end in range(start, len(taken)):
            span_s = taken[end] - taken[start]
            assert end - start + 1 <= per_minute + per_minute * span_s / 60 + 0.001


def spent(tally, tokens, limits, now_s=0.0):
    assert None is tally.enter("acme", limits, now_s)
    tally.spend("acme", tokens, limits, now_s)
    tally.leave("acme")


def test_tokens_are_paid_afterwards():
    """Who has any left is let in, whatever the call will cost; then the debt is to be waited for."""
    limits, tally = TenantLimits(tokens_per_minute=600), LocalQuotaStore()
    spent(tally, 599, limits)
    spent(tally, 1200, limits)

    rejection = tally.enter("acme", limits, 0.0)
    assert (QuotaMetric.TOKENS, pytest.approx(120.0)) == (rejection.metric, rejection.retry_after_s)
    assert None is tally.enter("acme", limits, 120.0)


def test_calls_in_flight_are_bound():
    """A call that leaves makes room; another tenant is not touched."""
    limits, tally = TenantLimits(max_concurrent_calls=2), LocalQuotaStore()
    for _ in range(2):
        assert None is tally.enter("acme", limits, 0.0)

    assert QuotaRejection(QuotaMetric.CALLS, None) == tally.enter("acme", limits, 0.0)
    assert None is tally.enter("globex", limits, 0.0)
    tally.leave("acme")
    assert None is tally.enter("acme", limits, 0.0)


def test_a_refused_call_costs_nothing():
    """It is on no account."""
    limits, tally = TenantLimits(max_concurrent_calls=1, requests_per_minute=2), LocalQuotaStore()
    tally.enter("acme", limits, 0.0)
    for _ in range(10):
        assert QuotaMetric.CALLS is tally.enter("acme", limits, 0.0).metric
    tally.leave("acme")

    assert None is tally.enter("acme", limits, 0.0)


def test_the_longest_wait_is_named():
    """To come back when one limit allows it and the other does not would be in vain."""
    limits, tally = TenantLimits(requests_per_minute=60, tokens_per_minute=60), LocalQuotaStore()
    spent(tally, 600, limits)
    for _ in range(60):
        tally.enter("acme", TenantLimits(requests_per_minute=60), 0.0)

    assert QuotaMetric.TOKENS is tally.enter("acme", limits, 0.0).metric


def test_a_limit_that_changes_holds_for_what_comes():
    """What was used stays used."""
    tally = LocalQuotaStore()
    for _ in range(60):
        tally.enter("acme", TenantLimits(requests_per_minute=60), 0.0)

    rejection = tally.enter("acme", TenantLimits(requests_per_minute=600), 0.0)
    assert pytest.approx(0.1) == rejection.retry_after_s
