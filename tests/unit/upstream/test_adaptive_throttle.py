"""When a request is not worth sending. Times and chance are arguments."""

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


def ask(breaker, *, now_s=0.0, fraction=0.0, pair=PAIR):
    """The reason that a request is refused with, None where it is admitted."""
    try:
        breaker.admit(pair, now_s=now_s, fraction=fraction)
    except ServiceError as error:
        return error.reason
    return None


def fail(breaker, reason=Reason.UPSTREAM_OVERLOADED, *, times=1, now_s=0.0, asked_s=None, pair=PAIR):
    for _ in range(times):
        breaker.admit(pair, now_s=now_s, fraction=1.0)
        breaker.failed(pair, ServiceError(reason, "text", retry_after_s=asked_s), now_s=now_s)


def test_a_few_failures_say_nothing():
    """Below the least number of requests nothing is dropped."""
    breaker = AdaptiveThrottle()
    fail(breaker, times=OUTCOMES_MIN - 1)

    assert None is ask(breaker)


def test_a_provider_that_is_down_gets_a_tenth_of_the_requests():
    """Nine of ten are answered here; one of ten goes through, so that recovery is seen."""
    breaker = AdaptiveThrottle()
    fail(breaker, times=200)

    assert Reason.UPSTREAM_OVERLOADED is ask(breaker, fraction=DROP_CHANCE_MAX - 0.01)
    assert None is ask(breaker, fraction=DROP_CHANCE_MAX)


def test_a_provider_that_accepts_half_is_left_alone():
    """Up to half of the requests may fail before any is dropped."""
    breaker = AdaptiveThrottle()
    for _ in range(100):
        breaker.admit(PAIR, now_s=0.0, fraction=1.0)
        breaker.succeeded(PAIR, now_s=0.0)
    fail(breaker, times=100)

    assert None is ask(breaker, fraction=0.001)


def test_the_window_forgets():
    """One window later a provider that was down is as good as new."""
    breaker = AdaptiveThrottle()
    fail(breaker, times=200)

    assert None is ask(breaker, now_s=WINDOW_S + 0.1)


def test_one_model_does_not_reach_another():
    """What is remembered is remembered of a key and a model."""
    breaker = AdaptiveThrottle()
    fail(breaker, times=200)

    assert None is ask(breaker, pair=OTHER)


@pytest.mark.parametrize(
    "reason",
    [Reason.UPSTREAM_INVALID_REQUEST, Reason.MODEL_NOT_FOUND, Reason.UPSTREAM_INTERNAL, Reason.RATE_LIMITED],
)
def test_an_answer_that_is_no_overload_counts_as_accepted(reason):
    """A provider that says no is a provider that works."""
    breaker = AdaptiveThrottle()
    fail(breaker, reason, times=200)

    assert None is ask(breaker)


@pytest.mark.parametrize(
    "reason", [Reason.UPSTREAM_CONNECT_FAILED, Reason.UPSTREAM_RESET, Reason.UPSTREAM_OVERLOADED]
)
def test_overload_and_broken_connections_count_against_it(reason):
    """A provider that cannot be reached is asked less."""
    breaker = AdaptiveThrottle()
    fail(breaker, reason, times=200)

    assert Reason.UPSTREAM_OVERLOADED is ask(breaker)


@pytest.mark.parametrize("reason", [Reason.CALLER_CANCELLED, Reason.CALLER_DEADLINE])
def test_a_caller_who_left_says_nothing_about_the_provider(reason):
    """Cancels count neither way."""
    breaker = AdaptiveThrottle()
    fail(breaker, reason, times=200)

    assert None is ask(breaker)


def test_requests_without_an_outcome_say_nothing():
    """A thousand calls that are still being answered, or whose callers left, are no failures."""
    breaker = AdaptiveThrottle()
    for _ in range(1000):
        breaker.admit(PAIR, now_s=0.0, fraction=0.0)

    assert None is ask(breaker)


@pytest.mark.parametrize("calls_per_s", [1, 5, 20, 100])
def test_full_service_is_back_ten_seconds_after_the_provider(calls_per_s):
    """A minute without a provider, then one that works: ten seconds later no call is refused."""
    breaker, chance, refused_at_s = AdaptiveThrottle(), random.Random(7), 0.0
    for number in range(90 * calls_per_s):
        now_s = number / calls_per_s
        if ask(breaker, now_s=now_s, fraction=chance.random()):
            refused_at_s = now_s
        elif now_s < 60.0:
            breaker.failed(PAIR, ServiceError(Reason.UPSTREAM_CONNECT_FAILED, "text"), now_s=now_s)
        else:
            breaker.succeeded(PAIR, now_s=now_s)

    assert refused_at_s <= 70.0
    assert calls_per_s == 1 or 50.0 < refused_at_s


def test_a_wait_that_was_asked_for_is_kept():
    """Until it is over requests are answered here, as the provider did, with what is left."""
    breaker = AdaptiveThrottle()
    fail(breaker, Reason.RATE_LIMITED_TOKENS, asked_s=5.0)

    with pytest.raises(ServiceError) as caught:
        breaker.admit(PAIR, now_s=2.0, fraction=0.0)

    assert (Reason.RATE_LIMITED_TOKENS, 3.0) == (caught.value.reason, caught.value.retry_after_s)
    assert None is ask(breaker, now_s=5.0)
    assert None is ask(breaker, now_s=2.0, pair=OTHER)


def test_an_absurd_wait_is_not_kept_for_ever():
    """A year is half a minute."""
    breaker = AdaptiveThrottle()
    fail(breaker, Reason.RATE_LIMITED, asked_s=3e7)

    assert Reason.RATE_LIMITED is ask(breaker, now_s=29.0)
    assert None is ask(breaker, now_s=30.0)


def test_the_memory_is_bounded():
    """Callers choose model names: the oldest pair is forgotten."""
    breaker = AdaptiveThrottle(pairs_max=2)
    fail(breaker, Reason.RATE_LIMITED, asked_s=5.0)
    for number in range(2):
        ask(breaker, pair=("key", f"model {number}"))

    assert None is ask(breaker)


def test_pairs_that_are_held_and_dropped_are_counted():
    """Each while it lasts; to look changes nothing."""
    breaker = AdaptiveThrottle()
    fail(breaker, times=200)
    fail(breaker, Reason.RATE_LIMITED, asked_s=5.0, pair=OTHER)
    counted = [
        (breaker.held(now_s=now_s), breaker.dropping(now_s=now_s)) for now_s in (0.0, 4.9, 5.0, WINDOW_S)
    ]

    assert [(1, 1), (1, 1), (0, 1), (0, 0)] == counted
