"""Which requests the adaptive throttle rejects. Times and chance are arguments."""

import random

import pytest

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream.adaptive_throttle import (
    DROP_CHANCE_MAX,
    OUTCOMES_MIN,
    WINDOW_S,
    AdaptiveThrottle,
)

PAIR = ("key", "model")
OTHER = ("key", "other model")


def admit(throttle, *, now_s=0.0, fraction=0.0, pair=PAIR):
    """The reason with which a request is rejected; None if it is admitted."""
    try:
        throttle.admit(pair, now_s=now_s, fraction=fraction)
    except ServiceError as error:
        return error.reason
    return None


def fail(throttle, reason=Reason.UPSTREAM_OVERLOADED, *, times=1, now_s=0.0, retry_after_s=None, pair=PAIR):
    for _ in range(times):
        throttle.admit(pair, now_s=now_s, fraction=1.0)
        throttle.failed(pair, ServiceError(reason, "text", retry_after_s=retry_after_s), now_s=now_s)


def test_a_few_failures_drop_nothing():
    """Below the minimum number of outcomes nothing is dropped."""
    throttle = AdaptiveThrottle()
    fail(throttle, times=OUTCOMES_MIN - 1)

    assert None is admit(throttle)


def test_a_provider_that_is_down_gets_a_tenth_of_the_requests():
    """Nine of ten requests are rejected; one of ten is sent, so that recovery is noticed."""
    throttle = AdaptiveThrottle()
    fail(throttle, times=200)

    assert Reason.UPSTREAM_OVERLOADED is admit(throttle, fraction=DROP_CHANCE_MAX - 0.01)
    assert None is admit(throttle, fraction=DROP_CHANCE_MAX)


def test_a_provider_that_accepts_half_gets_every_request():
    """Nothing is dropped while at most half of the requests fail."""
    throttle = AdaptiveThrottle()
    for _ in range(100):
        throttle.admit(PAIR, now_s=0.0, fraction=1.0)
        throttle.succeeded(PAIR, now_s=0.0)
    fail(throttle, times=100)

    assert None is admit(throttle, fraction=0.001)


def test_the_window_forgets():
    """One window later the failures of a provider no longer count."""
    throttle = AdaptiveThrottle()
    fail(throttle, times=200)

    assert None is admit(throttle, now_s=WINDOW_S + 0.1)


def test_models_do_not_affect_each_other():
    """State is kept per key and model."""
    throttle = AdaptiveThrottle()
    fail(throttle, times=200)

    assert None is admit(throttle, pair=OTHER)


@pytest.mark.parametrize(
    "reason",
    [Reason.UPSTREAM_INVALID_REQUEST, Reason.MODEL_NOT_FOUND, Reason.UPSTREAM_INTERNAL, Reason.RATE_LIMITED],
)
def test_a_failure_that_is_not_an_overload_counts_as_accepted(reason):
    """A provider that rejects a request still works."""
    throttle = AdaptiveThrottle()
    fail(throttle, reason, times=200)

    assert None is admit(throttle)


@pytest.mark.parametrize(
    "reason", [Reason.UPSTREAM_CONNECT_FAILED, Reason.UPSTREAM_RESET, Reason.UPSTREAM_OVERLOADED]
)
def test_overload_and_broken_connections_count_against_the_provider(reason):
    """A provider that cannot be reached gets fewer requests."""
    throttle = AdaptiveThrottle()
    fail(throttle, reason, times=200)

    assert Reason.UPSTREAM_OVERLOADED is admit(throttle)


@pytest.mark.parametrize("reason", [Reason.CALLER_CANCELLED, Reason.CALLER_DEADLINE])
def test_cancels_of_callers_are_ignored(reason):
    """A cancel counts neither for nor against the provider."""
    throttle = AdaptiveThrottle()
    fail(throttle, reason, times=200)

    assert None is admit(throttle)


def test_requests_without_an_outcome_are_ignored():
    """A thousand calls in flight, or cancelled, do not count as failures."""
    throttle = AdaptiveThrottle()
    for _ in range(1000):
        throttle.admit(PAIR, now_s=0.0, fraction=0.0)

    assert None is admit(throttle)


@pytest.mark.parametrize("calls_per_s", [1, 5, 20, 100])
def test_full_service_returns_ten_seconds_after_the_provider(calls_per_s):
    """Ten seconds after a provider recovers from a minute of failures, no call is rejected."""
    throttle, chance, rejected_at_s = AdaptiveThrottle(), random.Random(7), 0.0
    for number in range(90 * calls_per_s):
        now_s = number / calls_per_s
        if admit(throttle, now_s=now_s, fraction=chance.random()):
            rejected_at_s = now_s
        elif now_s < 60.0:
            throttle.failed(PAIR, ServiceError(Reason.UPSTREAM_CONNECT_FAILED, "text"), now_s=now_s)
        else:
            throttle.succeeded(PAIR, now_s=now_s)

    assert rejected_at_s <= 70.0
    assert calls_per_s == 1 or 50.0 < rejected_at_s


def test_the_providers_delay_is_kept():
    """Until the delay is over, requests fail with the provider's reason and the rest of the delay."""
    throttle = AdaptiveThrottle()
    fail(throttle, Reason.RATE_LIMITED_TOKENS, retry_after_s=5.0)

    with pytest.raises(ServiceError) as caught:
        throttle.admit(PAIR, now_s=2.0, fraction=0.0)

    assert (Reason.RATE_LIMITED_TOKENS, 3.0) == (caught.value.reason, caught.value.retry_after_s)
    assert None is admit(throttle, now_s=5.0)
    assert None is admit(throttle, now_s=2.0, pair=OTHER)


def test_an_absurd_delay_is_capped():
    """A delay of a year is kept for 30 seconds."""
    throttle = AdaptiveThrottle()
    fail(throttle, Reason.RATE_LIMITED, retry_after_s=3e7)

    assert Reason.RATE_LIMITED is admit(throttle, now_s=29.0)
    assert None is admit(throttle, now_s=30.0)


def test_the_number_of_pairs_is_bounded():
    """Callers choose model names, so the oldest pair is forgotten."""
    throttle = AdaptiveThrottle(pairs_max=2)
    fail(throttle, Reason.RATE_LIMITED, retry_after_s=5.0)
    for number in range(2):
        admit(throttle, pair=("key", f"model {number}"))

    assert None is admit(throttle)


def test_held_and_dropping_pairs_are_counted():
    """Each pair counts while its state lasts; counting changes nothing."""
    throttle = AdaptiveThrottle()
    fail(throttle, times=200)
    fail(throttle, Reason.RATE_LIMITED, retry_after_s=5.0, pair=OTHER)
    counted = [
        (throttle.held(now_s=now_s), throttle.dropping(now_s=now_s)) for now_s in (0.0, 4.9, 5.0, WINDOW_S)
    ]

    assert [(1, 1), (1, 1), (0, 1), (0, 0)] == counted
