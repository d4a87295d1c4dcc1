"""Which limit of time a stream runs into next."""

import pytest

from togetherchat_server.domain.reasons import Reason
from togetherchat_server.upstream.stream_timeouts import StreamTimeouts


@pytest.fixture
def timers() -> StreamTimeouts:
    return StreamTimeouts(started_s=100.0, first_token_timeout_s=120.0, idle_timeout_s=60.0)


def test_until_the_first_event_the_limit_is_that_of_the_first_token(timers):
    """Silence does not end it early: a long prompt is thought over in silence."""
    assert (220.0, Reason.FIRST_TOKEN_TIMEOUT) == timers.deadline()


def test_bytes_that_are_no_event_do_not_put_off_the_first_token(timers):
    """Comments keep the connection alive; they are no answer."""
    timers.bytes_arrived(210.0)
    assert (220.0, Reason.FIRST_TOKEN_TIMEOUT) == timers.deadline()


def test_from_the_first_event_on_the_limit_is_silence(timers):
    """Counted from that event."""
    timers.event_arrived(150.0)
    assert (210.0, Reason.STREAM_IDLE_TIMEOUT) == timers.deadline()


def test_any_byte_puts_off_the_limit_of_silence(timers):
    """Comments too."""
    timers.event_arrived(150.0)
    timers.bytes_arrived(200.0)
    assert (260.0, Reason.STREAM_IDLE_TIMEOUT) == timers.deadline()


def test_bytes_before_the_first_event_are_remembered_after_it(timers):
    """The event came with those bytes or after them, never before."""
    timers.bytes_arrived(140.0)
    timers.event_arrived(150.0)
    timers.event_arrived(151.0)
    assert (211.0, Reason.STREAM_IDLE_TIMEOUT) == timers.deadline()
