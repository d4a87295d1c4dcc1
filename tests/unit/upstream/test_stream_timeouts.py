"""Which timeout of a stream expires next."""

import pytest

from togetherchat_server.domain.reasons import Reason
from togetherchat_server.upstream.stream_timeouts import StreamTimeouts


@pytest.fixture
def timers() -> StreamTimeouts:
    return StreamTimeouts(started_s=100.0, first_token_timeout_s=120.0, idle_timeout_s=60.0)


def test_until_the_first_event_the_first_token_timeout_applies(timers):
    """Silence does not shorten it: a model may process a long prompt in silence."""
    assert (220.0, Reason.FIRST_TOKEN_TIMEOUT) == timers.deadline()


def test_comments_do_not_extend_the_first_token_timeout(timers):
    """Comments keep the connection alive, but are not part of the completion."""
    timers.bytes_arrived(210.0)
    assert (220.0, Reason.FIRST_TOKEN_TIMEOUT) == timers.deadline()


def test_from_the_first_event_on_the_idle_timeout_applies(timers):
    """The idle timeout starts with that event."""
    timers.event_arrived(150.0)
    assert (210.0, Reason.STREAM_IDLE_TIMEOUT) == timers.deadline()


def test_any_byte_restarts_the_idle_timeout(timers):
    """Comments restart it too."""
    timers.event_arrived(150.0)
    timers.bytes_arrived(200.0)
    assert (260.0, Reason.STREAM_IDLE_TIMEOUT) == timers.deadline()


def test_later_events_restart_the_idle_timeout(timers):
    """The idle timeout counts from the latest event, not from bytes before it."""
    timers.bytes_arrived(140.0)
    timers.event_arrived(150.0)
    timers.event_arrived(151.0)
    assert (211.0, Reason.STREAM_IDLE_TIMEOUT) == timers.deadline()
