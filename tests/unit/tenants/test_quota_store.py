"""The quota store of one process."""

import pytest

from support.quotas import TODAY, use_tokens
from togetherchat_server.tenants.quota_store import Claim, Grant, LocalQuotaStore, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.tenants_file import QuotaLimits


def test_tokens_beyond_the_estimate_are_a_debt():
    """An attempt that used more than it reserved delays the next one until the debt is paid."""
    limits, store = QuotaLimits(tokens_per_minute=600), LocalQuotaStore()
    claim = Claim(tokens=600)
    granted = store.reserve("acme", claim, limits, 0.0, TODAY)
    store.settle("acme", claim, Claim(tokens=1200), limits, 0.0, granted.period)

    rejection = store.enter("acme", limits, 0.0)
    assert (QuotaMetric.TOKENS, pytest.approx(60.1)) == (rejection.metric, rejection.retry_after_s)
    assert None is store.enter("acme", limits, 60.1)


def test_tokens_that_were_not_used_are_given_back():
    """What is left is named while they are reserved."""
    limits, store = QuotaLimits(tokens_per_minute=600), LocalQuotaStore()
    claim = Claim(tokens=500)
    granted = store.reserve("acme", claim, limits, 0.0, TODAY)
    rejection = store.reserve("acme", claim, limits, 0.0, TODAY)
    store.settle("acme", claim, Claim(tokens=10), limits, 0.0, granted.period)

    assert QuotaRejection(QuotaMetric.TOKENS, pytest.approx(40.0), 100) == rejection
    assert isinstance(store.reserve("acme", claim, limits, 0.0, TODAY), Grant)


def test_a_claim_above_a_minutes_limit_needs_the_whole_minute():
    """Rejected for ever, it could never be used."""
    limits, store = QuotaLimits(tokens_per_minute=600), LocalQuotaStore()
    use_tokens(store, "acme", 1, limits)

    rejection = store.reserve("acme", Claim(tokens=10_000), limits, 0.0, TODAY)
    assert QuotaRejection(QuotaMetric.TOKENS, pytest.approx(0.1), 599) == rejection
    assert isinstance(store.reserve("acme", Claim(tokens=10_000), limits, 0.2, TODAY), Grant)


def test_a_reset_forgets_requests_and_tokens():
    """And nothing else: a call in flight stays one."""
    limits, store = QuotaLimits(requests_per_minute=1, tokens_per_minute=600), LocalQuotaStore()
    store.enter("acme", limits, 0.0)
    use_tokens(store, "acme", 600, limits)
    assert isinstance(store.enter("acme", limits, 0.0), QuotaRejection)
    store.reset("acme")

    assert None is store.enter("acme", limits, 0.0)
    assert 2 == store.usage("acme", TODAY).calls


def test_calls_in_flight_are_limited():
    """A call that leaves makes room; another tenant is not affected."""
    limits, store = QuotaLimits(max_concurrent_calls=2), LocalQuotaStore()
    for _ in range(2):
        assert None is store.enter("acme", limits, 0.0)

    assert QuotaRejection(QuotaMetric.CALLS, None) == store.enter("acme", limits, 0.0)
    assert None is store.enter("globex", limits, 0.0)
    store.leave("acme")
    assert None is store.enter("acme", limits, 0.0)


def test_a_rejected_call_is_not_counted():
    """Rejections consume no request."""
    limits, store = QuotaLimits(max_concurrent_calls=1, requests_per_minute=2), LocalQuotaStore()
    store.enter("acme", limits, 0.0)
    for _ in range(10):
        assert QuotaMetric.CALLS is store.enter("acme", limits, 0.0).metric
    store.leave("acme")

    assert None is store.enter("acme", limits, 0.0)


def test_the_limit_with_the_longest_wait_is_named():
    """A retry when one limit allows it and the other does not would fail."""
    limits, store = QuotaLimits(requests_per_minute=60, tokens_per_minute=60), LocalQuotaStore()
    use_tokens(store, "acme", 600, limits)
    for _ in range(60):
        store.enter("acme", QuotaLimits(requests_per_minute=60), 0.0)

    assert QuotaMetric.TOKENS is store.enter("acme", limits, 0.0).metric


def test_a_changed_limit_applies_to_the_next_call():
    """The usage so far is kept."""
    store = LocalQuotaStore()
    for _ in range(60):
        store.enter("acme", QuotaLimits(requests_per_minute=60), 0.0)

    rejection = store.enter("acme", QuotaLimits(requests_per_minute=600), 0.0)
    assert pytest.approx(0.1) == rejection.retry_after_s
