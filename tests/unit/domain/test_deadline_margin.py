import pytest

from togetherchat_server.domain.deadline import deadline_margin_s


@pytest.mark.parametrize(
    ("left_s", "margin_s"),
    [(0.0, 0.0), (0.1, 0.02), (0.5, 0.1), (1.0, 0.1), (10.0, 0.1), (30.0, 0.3), (150.3, 1.503), (-1.0, 0.0)],
)
def test_a_call_ends_before_the_callers_own_timer_fires(left_s, margin_s):
    """The margin is 100 ms or 1%, whichever is more, and never more than a fifth."""
    assert pytest.approx(margin_s) == deadline_margin_s(left_s)
