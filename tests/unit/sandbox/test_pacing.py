"""When tokens are due."""

import pytest

from togetherchat_sandbox import pacing
from togetherchat_sandbox.settings import SandboxSettings


def test_tokens_keep_to_an_absolute_schedule():
    """The token at position k is due k beats after the first one."""
    pace = pacing.as_set(SandboxSettings(first_token_ms=200, tokens_per_second=10))
    assert [0.2, 0.3, 1.2, 100.2] == [pytest.approx(pace.due_s(place)) for place in (0, 1, 10, 1_000)]


def test_nobody_chose():
    """The defaults are pleasant: 150 ms, then 80 tokens a second."""
    pace = pacing.as_set(SandboxSettings())
    assert (0.15, 80) == (pace.first_token_s, pace.tokens_per_second)


def test_zero_is_no_waiting():
    """0 and 0 make everything due at once."""
    pace = pacing.as_set(SandboxSettings(first_token_ms=0, tokens_per_second=0))
    assert [0, 0] == [pace.due_s(10_000), pace.unary_due_s(10_000)]


def test_a_whole_answer_takes_as_long_as_its_stream():
    """A unary answer is due when its last token would be, but not after the cap."""
    pace = pacing.as_set(SandboxSettings(first_token_ms=100, tokens_per_second=10, unary_wait_max_ms=1_000))
    assert [pytest.approx(0.6), 1.0] == [pace.unary_due_s(5), pace.unary_due_s(5_000)]


def test_paces_of_names():
    """Slow is slow and fast is fast whatever is set; long keeps to what is set, and only to that."""
    chosen, free = SandboxSettings(first_token_ms=50, tokens_per_second=20), SandboxSettings()
    told = {
        name: [(pace.first_token_s, pace.tokens_per_second) for pace in (make(chosen), make(free))]
        for name, make in (("slow", pacing.slow), ("fast", pacing.at_once), ("long", pacing.only_as_set))
    }
    assert {
        "slow": [(2, 5), (2, 5)],
        "fast": [(0, 0), (0, 0)],
        "long": [(0.05, 20), (0, 0)],
    } == told
