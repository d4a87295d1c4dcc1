"""Budgets: what is reserved and committed never exceeds them, in any order of events."""

import os
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.quotas import CENT, NEXT_MONTH, TODAY, TOMORROW
from togetherchat_server.domain.periods import Period, period_of
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.tenants.quota_errors import quota_error, usd
from togetherchat_server.tenants.quota_store import Claim, Grant, LocalQuotaStore, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.shared_quota_store import SharedQuotaStore, new_segment
from togetherchat_server.tenants.tenants_file import TenantLimits

LIMITS = TenantLimits(budget_usd_per_day=1, budget_usd_per_month=2)


@pytest.fixture(params=["one process", "shared"])
def store(request):
    if request.param == "one process":
        yield LocalQuotaStore()
        return
    descriptor = new_segment(workers=1)
    yield SharedQuotaStore(descriptor)
    os.close(descriptor)


def reserve(store, cents, period=TODAY, limits=LIMITS):
    return store.reserve("acme", Claim(nano_usd=cents * CENT), limits, 0.0, period)


def settle(store, cents, used, period=TODAY, limits=LIMITS):
    store.settle("acme", Claim(nano_usd=cents * CENT), Claim(nano_usd=used * CENT), limits, 0.0, period)


def test_a_claim_that_could_exceed_the_budget_is_rejected(store):
    """What is left is what is neither spent nor reserved."""
    assert isinstance(reserve(store, 60), Grant)

    assert QuotaRejection(QuotaMetric.DAY_COST, None, 40 * CENT) == reserve(store, 41)
    assert isinstance(reserve(store, 40), Grant)


def test_what_was_not_used_is_available_again(store):
    reserve(store, 100)
    settle(store, 100, 10)

    assert Grant(TODAY, 0, 100 * CENT) == reserve(store, 90)


def test_a_new_day_and_a_new_month_begin_empty(store):
    """The month is still used on the next day."""
    reserve(store, 100)
    settle(store, 100, 100)

    assert QuotaMetric.DAY_COST is reserve(store, 1).metric
    assert isinstance(reserve(store, 100, TOMORROW), Grant)
    settle(store, 100, 100, TOMORROW)
    assert QuotaMetric.MONTH_COST is reserve(store, 1, Period(TODAY.day + 2, TODAY.month)).metric
    assert Grant(NEXT_MONTH, 0, 100 * CENT) == reserve(store, 100, NEXT_MONTH)


def test_an_attempt_that_ends_in_the_next_day_changes_nothing_there(store):
    """Its day is over; its month is not."""
    reserve(store, 100)
    reserve(store, 10, TOMORROW)
    settle(store, 100, 50)
    spending = store.usage("acme", TOMORROW).spending

    assert (0, 10 * CENT) == (spending.day_committed, spending.day_reserved)
    assert (50 * CENT, 10 * CENT) == (spending.month_committed, spending.month_reserved)


def test_a_call_of_the_day_before_reserves_in_the_current_one(store):
    """A clock that is behind, or a call that waited over midnight, evades no budget."""
    reserve(store, 100, TOMORROW)

    assert QuotaMetric.DAY_COST is reserve(store, 1, TODAY).metric


def test_what_was_spent_before_the_start_counts(store):
    """Once: a second load, by another worker, has no effect."""
    assert not store.loaded
    store.load({"acme": 90 * CENT}, {"acme": 150 * CENT, "globex": CENT}, TODAY)
    store.load({"acme": 90 * CENT}, {"acme": 150 * CENT}, TODAY)

    assert store.loaded
    assert QuotaRejection(QuotaMetric.DAY_COST, None, 10 * CENT) == reserve(store, 11)
    assert 150 * CENT == store.usage("acme", TODAY).spending.month_committed


def test_a_reset_does_not_give_money_back(store):
    reserve(store, 100)
    settle(store, 100, 100)
    store.reset("acme")

    assert QuotaMetric.DAY_COST is reserve(store, 1).metric


EVENTS = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 100), st.integers(0, 5), st.integers(0, 3)), max_size=60
)


@settings(deadline=None)
@given(events=EVENTS)
def test_spent_and_reserved_never_exceed_a_budget(events):
    """Attempts reserve, and settle up to what they reserved, in any order, while days pass."""
    descriptor = new_segment(workers=1)
    stores = [LocalQuotaStore(), SharedQuotaStore(descriptor)]
    open_claims, day = [], 0
    for cents, percent, oldest, days in events:
        day += days == 3
        period = period_of((TODAY.day + day) * 86_400_000_000)
        results = [reserve(store, cents, period) for store in stores]
        assert results[0] == results[1]
        if isinstance(results[0], Grant):
            open_claims.append((cents, percent, results[0].period))
        if open_claims and oldest < len(open_claims):
            claimed, used, reserved_in = open_claims.pop(oldest)
            for store in stores:
                settle(store, claimed, claimed * used // 100, reserved_in)
        usages = [store.usage("acme", period).spending for store in stores]
        assert usages[0] == usages[1]
        assert usages[0].day_committed + usages[0].day_reserved <= LIMITS.day_budget
        assert usages[0].month_committed + usages[0].month_reserved <= LIMITS.month_budget
        assert 0 <= usages[0].day_reserved
        assert 0 <= usages[0].month_reserved
    for claimed, used, reserved_in in open_claims:
        for store in stores:
            settle(store, claimed, claimed * used // 100, reserved_in)
    assert (0, 0) == (
        stores[0].usage("acme", TODAY).spending.day_reserved,
        stores[1].usage("acme", TODAY).spending.day_reserved,
    )
    os.close(descriptor)


def test_the_error_names_the_budget_and_what_is_left():
    """A client must not repeat the call: the money does not come back by waiting a moment."""
    error = quota_error(
        "acme", QuotaRejection(QuotaMetric.DAY_COST, None, 40 * CENT), LIMITS, Claim(nano_usd=41 * CENT)
    )

    assert (Reason.CALLER_QUOTA, False, None) == (error.reason, error.retryable, error.retry_after_s)
    expected = (
        "tenant acme has 0.40 USD left of its 1.00 USD budget per day; this call may cost up to 0.41 USD"
    )
    assert expected == error.message


@given(nano_usd=st.integers(0, 10**18))
def test_an_amount_is_written_exactly(nano_usd):
    text = usd(nano_usd)

    assert nano_usd == Decimal(text) * 10**9
    assert len(text.partition(".")[2]) >= 2


@pytest.mark.parametrize(
    ("usd_per_day", "nano_usd"),
    [(30, 30 * 10**9), (0.1, 10**8), (1e9, 10**18), (12.345678901, 12_345_678_901)],
)
def test_a_budget_is_converted_exactly(usd_per_day, nano_usd):
    assert nano_usd == TenantLimits(budget_usd_per_day=usd_per_day).day_budget


def test_a_period_has_its_bounds():
    """Days and months of UTC, leap years included."""
    leap_day = period_of(1_709_164_800_000_000)  # 2024-02-29

    assert 86_400_000_000 == leap_day.day_end_us - leap_day.day_start_us
    assert 29 * 86_400_000_000 == leap_day.month_end_us - leap_day.month_start_us
    assert 1_709_164_800_000_000 == leap_day.day_start_us
    assert leap_day == period_of(leap_day.day_end_us - 1)
    assert leap_day != period_of(leap_day.day_end_us)
