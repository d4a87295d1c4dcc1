"""Addresses that bring bad credentials: what is counted, who waits how long, and who does not."""

import pytest

from togetherchat_server.calls.auth_throttle import REMEMBERED_MAX, AuthThrottle
from togetherchat_server.domain.reasons import Reason, ServiceError

HERE = "192.0.2.1"
ELSEWHERE = "192.0.2.2"
CALLER = "0123456789abcdef"
BAD = (Reason.MISSING_CREDENTIALS, Reason.INVALID_CREDENTIALS, Reason.CALLER_KEY_REJECTED)


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def failing(failures, *, times, reason=Reason.INVALID_CREDENTIALS, host=HERE, caller=""):
    """The reasons that as many failed calls are answered with."""
    return [failures.answer(host, caller, ServiceError(reason, "no")).reason for _ in range(times)]


def wait_s(failures, *, host=HERE, caller=""):
    """How long a caller is told to wait; None: it may go on."""
    try:
        failures.check(host, caller)
    except ServiceError as error:
        return error.retry_after_s if error.reason is Reason.CALLER_QUOTA else error
    return None


@pytest.mark.parametrize("reason", BAD)
def test_a_minutes_failures_are_answered_as_they_are(clock, reason):
    """The next call of that address, whatever it brings, has to wait until there is room for one."""
    failures = AuthThrottle(per_minute=3, clock=clock)
    before = [(failing(failures, times=1, reason=reason), failures.watching) for _ in range(3)]

    assert [([reason], False), ([reason], False), ([reason], True)] == before
    assert 20.0 == wait_s(failures)


@pytest.mark.parametrize("reason", [Reason.MISSING_CREDENTIALS, Reason.INVALID_CREDENTIALS])
def test_more_of_them_are_told_to_wait_and_not_counted(clock, reason):
    """Who goes on failing waits no longer for it."""
    failures = AuthThrottle(per_minute=3, clock=clock)
    failing(failures, times=3)

    assert [Reason.CALLER_QUOTA] * 5 == failing(failures, times=5, reason=reason)
    assert 20.0 == wait_s(failures)


def test_what_the_provider_said_of_a_key_is_passed_on(clock):
    """It was asked before anybody knew: its word is worth more than a wait."""
    failures = AuthThrottle(per_minute=1, clock=clock)

    assert [Reason.CALLER_KEY_REJECTED] * 3 == failing(failures, times=3, reason=Reason.CALLER_KEY_REJECTED)
    assert 60.0 == wait_s(failures)


@pytest.mark.parametrize("reason", sorted(set(Reason) - set(BAD)))
def test_no_other_failure_counts(clock, reason):
    """A caller who asks for a model that is not there is no attacker."""
    failures = AuthThrottle(per_minute=1, clock=clock)

    assert [reason] * 5 == failing(failures, times=5, reason=reason)
    assert wait_s(failures) is None


def test_a_bucket_drains(clock):
    """One more try after each interval, all of them after a minute."""
    failures = AuthThrottle(per_minute=3, clock=clock)
    failing(failures, times=3)
    clock.now_s += 20.0
    one_more = failing(failures, times=2)
    clock.now_s += 60.0

    assert [Reason.INVALID_CREDENTIALS, Reason.CALLER_QUOTA] == one_more
    assert not failures.watching
    assert [Reason.INVALID_CREDENTIALS] * 3 == failing(failures, times=3)


def test_another_address_does_not_wait(clock):
    """Each has a bucket of its own."""
    failures = AuthThrottle(per_minute=1, clock=clock)
    failing(failures, times=1)

    assert wait_s(failures) == 60.0
    assert wait_s(failures, host=ELSEWHERE) is None


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("/run/socket", "/run/socket", True),
    ],
)
def test_what_counts_as_one_address(clock, first, second, shared):
    """Of IPv6 a network: who has one address there has them all."""
    failures = AuthThrottle(per_minute=1, clock=clock)
    failing(failures, times=1, host=first)

    assert shared == (wait_s(failures, host=second) is not None)


def test_who_was_served_is_served_beside_who_fails(clock):
    """Behind a proxy all have one address."""
    failures = AuthThrottle(per_minute=1, clock=clock)
    failures.served(CALLER)
    failing(failures, times=1)

    assert wait_s(failures, caller=CALLER) is None
    assert 60.0 == wait_s(failures, caller="another")
    assert 60.0 == wait_s(failures, caller="")


def test_a_key_that_is_revoked_is_served_no_more(clock):
    """Its own rejection takes the privilege back."""
    failures = AuthThrottle(per_minute=1, clock=clock)
    failures.served(CALLER)
    failing(failures, times=1, reason=Reason.CALLER_KEY_REJECTED, caller=CALLER)

    assert 60.0 == wait_s(failures, caller=CALLER)


def test_a_caller_that_nothing_tells_from_others_is_not_remembered(clock):
    """Where no caller brings a key, one that was served says nothing of the next."""
    failures = AuthThrottle(per_minute=1, clock=clock)
    failures.served("")
    failing(failures, times=1)

    assert 60.0 == wait_s(failures, caller="")


def test_zero_switches_it_off(clock):
    """Nothing is counted, nobody waits."""
    failures = AuthThrottle(per_minute=0, clock=clock)

    assert [Reason.INVALID_CREDENTIALS] * 100 == failing(failures, times=100)
    assert not failures.watching
    assert wait_s(failures) is None


def test_memory_is_bounded(clock):
    """The oldest addresses and callers are forgotten, the newest are not."""
    failures = AuthThrottle(per_minute=1, clock=clock)
    hosts = [f"192.0.{n // 256}.{n % 256}" for n in range(REMEMBERED_MAX + 1)]
    for number, host in enumerate(hosts):
        failing(failures, times=1, host=host)
        failures.served(f"caller {number}")

    assert wait_s(failures, host=hosts[0]) is None
    assert 60.0 == wait_s(failures, host=hosts[1])
    assert 60.0 == wait_s(failures, host=hosts[-1], caller="caller 0")
    assert wait_s(failures, host=hosts[-1], caller="caller 1") is None
