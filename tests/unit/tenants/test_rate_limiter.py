"""A limit per minute, on a clock that the test sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from togetherchat_server.tenants.rate_limiter import consume, wait_s


class Usage:
    """The usage of one limit per minute."""

    def __init__(self, per_minute):
        self.per_minute, self.until_s = per_minute, 0.0

    def try_one(self, now_s):
        """Consume a unit if one is available; return the wait."""
        waiting_s = wait_s(self.until_s, now_s, self.per_minute)
        if not waiting_s:
            self.until_s = consume(self.until_s, now_s, self.per_minute, 1)
        return waiting_s


@pytest.mark.parametrize("per_minute", [1, 3, 7, 60, 600, 1001])
def test_a_minutes_limit_is_available_at_once(per_minute):
    """And not one unit more, however the fractions add up."""
    usage = Usage(per_minute)

    assert [0.0] * per_minute == [usage.try_one(1e6) for _ in range(per_minute)]
    assert pytest.approx(60 / per_minute) == usage.try_one(1e6)


def test_a_unit_is_available_after_the_wait():
    """A retry after the returned time succeeds; one a little earlier does not."""
    usage = Usage(60)
    for _ in range(60):
        usage.try_one(0.0)
    waiting_s = usage.try_one(0.0)

    assert usage.try_one(waiting_s - 0.1)
    assert not usage.try_one(waiting_s)


@given(
    st.integers(1, 500),
    st.lists(st.floats(0, 30), min_size=1, max_size=300),
)
def test_any_span_is_bounded_by_the_burst_and_its_own_length(per_minute, pauses):
    """The invariant of the algorithm, for any arrivals."""
    usage, now_s, consumed = Usage(per_minute), 0.0, []
    for pause in pauses:
        now_s += pause
        if not usage.try_one(now_s):
            consumed.append(now_s)

    for start in range(len(consumed)):
        for end in range(start, len(consumed)):
            span_s = consumed[end] - consumed[start]
            assert end - start + 1 <= per_minute + per_minute * span_s / 60 + 0.001
