"""When tokens are due."""

import pytest

from togetherchat_sandbox import pacing
from togetherchat_sandbox.settings import SandboxSettings


def test_tokens_keep_to_an_absolute_schedule():
    """The token at position k is due k intervals after the first one."""
    pace = pacing.as_configured(SandboxSettings(first_token_ms=200, tokens_per_second=10))
    assert [0.2, 0.3, 1.2, 100.2] == [pytest.approx(pace.due_s(place)) for place in (0, 1, 10, 1_000)]


def test_defaults():
    """The defaults are 150 ms, then 80 tokens a second."""
    pace = pacing.as_configured(SandboxSettings())
    assert (0.15, 80) == (pace.first_token_s, pace.tokens_per_second)


def test_zero_is_no_waiting():
    """With 0 and 0 every token is due immediately."""
    pace = pacing.as_configured(SandboxSettings(first_token_ms=0, tokens_per_second=0))
    assert [0, 0] == [pace.due_s(10_000), pace.unary_due_s(10_000)]


def test_a_unary_response_takes_as_long_as_its_stream():
    """A unary response is due when its last token would be, but not after the cap."""
    pace = pacing.as_configured(
        SandboxSettings(first_token_ms=100, tokens_per_second=10, unary_wait_max_ms=1_000)
    )
    assert [pytest.approx(0.6), 1.0] == [pace.unary_due_s(5), pace.unary_due_s(5_000)]


def test_paces_of_models():
    """`slow` and `fast` ignore the settings; `long` uses the settings without the defaults."""
    chosen, free = SandboxSettings(first_token_ms=50, tokens_per_second=20), SandboxSettings()
    actual = {
        name: [(pace.first_token_s, pace.tokens_per_second) for pace in (make(chosen), make(free))]
        for name, make in (
            ("slow", pacing.slow),
            ("fast", pacing.immediate),
            ("long", pacing.configured_only),
        )
    }
    assert {
        "slow": [(2, 5), (2, 5)],
        "fast": [(0, 0), (0, 0)],
        "long": [(0.05, 20), (0, 0)],
    } == actual
