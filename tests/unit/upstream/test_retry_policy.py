"""Which failed attempts are retried, and when. No test here waits: times and chance are arguments."""

import pytest

from togetherchat_server.domain.reasons import AttemptClass, Reason, ServiceError
from togetherchat_server.upstream.retry_policy import RetryBudget, RetryPolicy, decide

POLICY = RetryPolicy()
BILLABLE = RetryPolicy(billable_retries_max=1)


def decision(
    reason, *, retryable=None, retry_after_s=None, attempt=1, left_s=60.0, fraction=1.0, policy=POLICY
):
    error = ServiceError(reason, "text", retryable=retryable, retry_after_s=retry_after_s)
    return decide(error, attempt=attempt, seconds_left=left_s, fraction=fraction, policy=policy)


@pytest.mark.parametrize("reason", Reason)
def test_the_attempt_class_decides(reason):
    """Safe reasons are retried; billable ones only if the operator allows it; all others never."""
    safe = reason.row.attempt_class in {AttemptClass.NOT_SENT, AttemptClass.DECLINED}
    billable = reason.row.attempt_class is AttemptClass.MAY_BE_BILLED

    assert safe == (decision(reason) is not None)
    assert (safe or billable) == (decision(reason, policy=BILLABLE) is not None)


@pytest.mark.parametrize(
    "reason",
    [
        Reason.UPSTREAM_TLS_FAILED,
        Reason.UPSTREAM_GATEWAY_TIMEOUT,
        Reason.UPSTREAM_MALFORMED_RESPONSE,
        Reason.UPSTREAM_TOO_LARGE,
        Reason.UPSTREAM_TRUNCATED,
        Reason.DRAINING,
        Reason.QUOTA_EXHAUSTED,
        Reason.SPEND_LIMIT_REACHED,
        Reason.UPSTREAM_INVALID_REQUEST,
        Reason.CALLER_CANCELLED,
        Reason.CALLER_DEADLINE,
    ],
)
def test_final_failures_are_never_retried(reason):
    """TLS failures, 504, malformed and truncated responses, quotas, other 4xx and cancels are final."""
    assert None is decision(reason, policy=BILLABLE)


def test_an_error_that_is_not_retryable_is_final():
    """The error knows better than the table: 526 is an unreachable edge that stays unreachable."""
    assert None is decision(Reason.UPSTREAM_EDGE_UNREACHABLE, retryable=False, policy=BILLABLE)


def test_an_error_that_only_callers_may_retry_is_final():
    """An unexpected 5xx may have been billed, and the operator's limit does not cover it."""
    assert None is decision(Reason.UPSTREAM_UNEXPECTED_STATUS, retryable=True, policy=BILLABLE)


@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, True), (3, False), (4, False)])
def test_two_retries_at_most(attempt, again):
    """A call makes three attempts in all."""
    assert again == (decision(Reason.UPSTREAM_OVERLOADED, attempt=attempt) is not None)


@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, False)])
def test_one_billable_retry_if_allowed(attempt, again):
    """`billable_retries_max=1` allows one retry of a failure that may be billed."""
    assert again == (decision(Reason.UPSTREAM_INTERNAL, attempt=attempt, policy=BILLABLE) is not None)


@pytest.mark.parametrize(
    ("attempt", "fraction", "delay_s"),
    [
        (1, 0.0, 0.0),
        (1, 0.5, 0.125),
        (1, 1.0, 0.25),
        (2, 1.0, 0.5),
        (3, 1.0, 1.0),
        (6, 1.0, 8.0),
        (50, 1.0, 8.0),
    ],
)
def test_delays_are_drawn_between_zero_and_a_bound_that_doubles(attempt, fraction, delay_s):
    """Full jitter: the bound is 0.25 s, doubles with every attempt, and is at most 8 s."""
    policy = RetryPolicy(retries_max=100)

    assert delay_s == decision(Reason.UPSTREAM_OVERLOADED, attempt=attempt, fraction=fraction, policy=policy)


@pytest.mark.parametrize(
    ("retry_after_s", "fraction", "delay_s"),
    [(2.0, 0.0, 2.0), (2.0, 1.0, 2.4), (30.0, 0.0, 30.0), (30.1, 0.0, None), (0.0, 1.0, 0.25)],
)
def test_the_providers_delay_is_a_minimum(retry_after_s, fraction, delay_s):
    """Jitter adds up to a fifth; a delay beyond 30 s fails the call at once."""
    assert delay_s == decision(Reason.RATE_LIMITED, retry_after_s=retry_after_s, fraction=fraction)


@pytest.mark.parametrize(("left_s", "delay_s"), [(0.2, None), (0.25, None), (0.26, 0.25), (-1.0, None)])
def test_a_delay_must_fit_the_deadline(left_s, delay_s):
    """A delay that leaves no time for the next attempt fails the call at once."""
    assert delay_s == decision(Reason.UPSTREAM_OVERLOADED, left_s=left_s)


@pytest.mark.parametrize(("calls", "retries"), [(0, 10), (100, 20), (1000, 110)])
def test_the_budget_is_a_tenth_of_the_calls_and_one_a_second(calls, retries):
    """Within one window, to the exact number."""
    budget = RetryBudget()
    for _ in range(calls):
        budget.record_first_attempt(0.0)

    assert retries == sum(budget.spend(0.0) for _ in range(5000))


def test_the_budget_recovers_as_the_window_moves():
    """Calls and retries older than ten seconds no longer count."""
    budget = RetryBudget()
    for _ in range(100):
        budget.record_first_attempt(0.0)
    at_once = sum(budget.spend(0.0) for _ in range(100))
    within = budget.spend(9.9)
    after = sum(budget.spend(10.0) for _ in range(100))

    assert (20, False, 10) == (at_once, within, after)


def test_retries_stay_a_tenth_of_the_load_over_any_window():
    """While every call fails for a minute, no ten seconds exceed a tenth of the calls plus the floor."""
    budget = RetryBudget()
    spent = []
    for tick in range(60 * 50):
        now_s = tick / 50
        budget.record_first_attempt(now_s)
        spent += [now_s for _ in range(2) if budget.spend(now_s)]

    for start_s in range(51):
        window = [when for when in spent if start_s <= when < start_s + 10]
        assert len(window) <= 0.1 * 500 + 10


def test_the_rest_of_the_budget_can_be_spent():
    """`left` spends nothing, and falls by one with each retry."""
    budget = RetryBudget()
    for _ in range(105):
        budget.record_first_attempt(0.0)
    left = [budget.left(0.0)]
    while budget.spend(0.0):
        left.append(budget.left(0.0))

    assert list(range(20, -1, -1)) == left
    assert 10 == budget.left(10.0)
