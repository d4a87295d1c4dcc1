"""The auth throttle: what is counted, which callers wait and how long, and which are exempt."""

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


def fail(throttle, *, times, reason=Reason.INVALID_CREDENTIALS, host=HERE, caller=""):
    """Return the reasons sent for this many failed calls."""
    return [throttle.record_failure(host, caller, ServiceError(reason, "no")).reason for _ in range(times)]


def wait_s(throttle, *, host=HERE, caller=""):
    """Return how long a caller must wait; None if it may proceed."""
    try:
        throttle.check(host, caller)
    except ServiceError as error:
        return error.retry_after_s if error.reason is Reason.CALLER_QUOTA else error
    return None


@pytest.mark.parametrize("reason", BAD)
def test_the_failures_of_one_minute_keep_their_reason(clock, reason):
    """The next call of that address, whatever its credentials, waits until the bucket has room for one."""
    throttle = AuthThrottle(per_minute=3, clock=clock)
    before = [(fail(throttle, times=1, reason=reason), throttle.active) for _ in range(3)]

    assert [([reason], False), ([reason], False), ([reason], True)] == before
    assert 20.0 == wait_s(throttle)


@pytest.mark.parametrize("reason", [Reason.MISSING_CREDENTIALS, Reason.INVALID_CREDENTIALS])
def test_further_failures_are_throttled_and_not_counted(clock, reason):
    """A caller that keeps failing does not wait longer."""
    throttle = AuthThrottle(per_minute=3, clock=clock)
    fail(throttle, times=3)

    assert [Reason.CALLER_QUOTA] * 5 == fail(throttle, times=5, reason=reason)
    assert 20.0 == wait_s(throttle)


def test_the_providers_rejection_of_a_key_is_passed_on(clock):
    """The request to the provider was already sent: its reason is more useful than a delay."""
    throttle = AuthThrottle(per_minute=1, clock=clock)

    assert [Reason.CALLER_KEY_REJECTED] * 3 == fail(throttle, times=3, reason=Reason.CALLER_KEY_REJECTED)
    assert 60.0 == wait_s(throttle)


@pytest.mark.parametrize("reason", sorted(set(Reason) - set(BAD)))
def test_no_other_failure_counts(clock, reason):
    """A caller that requests an unknown model, for example, is not an attacker."""
    throttle = AuthThrottle(per_minute=1, clock=clock)

    assert [reason] * 5 == fail(throttle, times=5, reason=reason)
    assert wait_s(throttle) is None


def test_a_bucket_drains(clock):
    """One more failure is allowed after each interval, and all of them after a minute."""
    throttle = AuthThrottle(per_minute=3, clock=clock)
    fail(throttle, times=3)
    clock.now_s += 20.0
    one_more = fail(throttle, times=2)
    clock.now_s += 60.0

    assert [Reason.INVALID_CREDENTIALS, Reason.CALLER_QUOTA] == one_more
    assert not throttle.active
    assert [Reason.INVALID_CREDENTIALS] * 3 == fail(throttle, times=3)


def test_another_address_does_not_wait(clock):
    """Each address has a bucket of its own."""
    throttle = AuthThrottle(per_minute=1, clock=clock)
    fail(throttle, times=1)

    assert wait_s(throttle) == 60.0
    assert wait_s(throttle, host=ELSEWHERE) is None


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
def test_the_addresses_that_share_a_bucket(clock, first, second, shared):
    """An IPv6 network counts as one address, since a caller in it can use any of its addresses."""
    throttle = AuthThrottle(per_minute=1, clock=clock)
    fail(throttle, times=1, host=first)

    assert shared == (wait_s(throttle, host=second) is not None)


def test_a_caller_that_was_served_is_exempt(clock):
    """Behind a proxy all callers have one address."""
    throttle = AuthThrottle(per_minute=1, clock=clock)
    throttle.record_success(CALLER)
    fail(throttle, times=1)

    assert wait_s(throttle, caller=CALLER) is None
    assert 60.0 == wait_s(throttle, caller="another")
    assert 60.0 == wait_s(throttle, caller="")


def test_a_caller_with_a_revoked_key_is_no_longer_exempt(clock):
    """The rejection of its own key ends the exemption."""
    throttle = AuthThrottle(per_minute=1, clock=clock)
    throttle.record_success(CALLER)
    fail(throttle, times=1, reason=Reason.CALLER_KEY_REJECTED, caller=CALLER)

    assert 60.0 == wait_s(throttle, caller=CALLER)


def test_an_unknown_caller_is_never_exempt(clock):
    """Without a key, a call that was served says nothing about the next one."""
    throttle = AuthThrottle(per_minute=1, clock=clock)
    throttle.record_success("")
    fail(throttle, times=1)

    assert 60.0 == wait_s(throttle, caller="")


def test_zero_disables_the_throttle(clock):
    """No failure is counted, and no caller waits."""
    throttle = AuthThrottle(per_minute=0, clock=clock)

    assert [Reason.INVALID_CREDENTIALS] * 100 == fail(throttle, times=100)
    assert not throttle.active
    assert wait_s(throttle) is None


def test_memory_is_bounded(clock):
    """The oldest addresses and callers are dropped, the newest are kept."""
    throttle = AuthThrottle(per_minute=1, clock=clock)
    hosts = [f"192.0.{n // 256}.{n % 256}" for n in range(REMEMBERED_MAX + 1)]
    for number, host in enumerate(hosts):
        fail(throttle, times=1, host=host)
        throttle.record_success(f"caller {number}")

    assert wait_s(throttle, host=hosts[0]) is None
    assert 60.0 == wait_s(throttle, host=hosts[1])
    assert 60.0 == wait_s(throttle, host=hosts[-1], caller="caller 0")
    assert wait_s(throttle, host=hosts[-1], caller="caller 1") is None
