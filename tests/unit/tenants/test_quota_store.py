"""The quota store of one process."""

import pytest

from togetherchat_server.tenants.quota_store import LocalQuotaStore, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.tenants_file import QuotaLimits


def spend(store, tokens, limits, now_s=0.0):
    """One call that uses tokens."""
    assert None is store.enter("acme", limits, now_s)
    store.spend("acme", tokens, limits, now_s)
    store.leave("acme")


def test_tokens_are_counted_after_the_call():
    """A call is admitted if any token is left, whatever it will use; then the tenant waits for the debt."""
    limits, store = QuotaLimits(tokens_per_minute=600), LocalQuotaStore()
    spend(store, 599, limits)
    spend(store, 1200, limits)

    rejection = store.enter("acme", limits, 0.0)
    assert (QuotaMetric.TOKENS, pytest.approx(120.0)) == (rejection.metric, rejection.retry_after_s)
    assert None is store.enter("acme", limits, 120.0)


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
    spend(store, 600, limits)
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
