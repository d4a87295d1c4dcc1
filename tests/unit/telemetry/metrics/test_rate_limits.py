"""The provider's rate limits as gauges."""

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.rate_limits import rate_limit_gauges


def gauges(**limits):
    headers = tuple((name.replace("_", "-"), value) for name, value in limits.items())
    return dict(rate_limit_gauges("some/model", headers, received_s=1000.0))


def test_without_headers_there_are_no_gauges():
    """An unknown number is not 0."""
    assert {} == gauges()


def test_every_known_limit_is_a_gauge_with_the_time_of_its_update():
    """Values are rounded down."""
    assert {
        (names.UPSTREAM_RATE_LIMIT, "some/model", "ratelimit-limit"): 200,
        (names.UPSTREAM_RATE_LIMIT, "some/model", "ratelimit-remaining"): 199,
        (names.UPSTREAM_RATE_LIMIT, "some/model", "tokenlimit-remaining-dynamic"): 12,
        (names.UPSTREAM_RATE_LIMIT_UPDATED, "some/model"): 1000.0,
    } == gauges(x_ratelimit_limit="200", x_ratelimit_remaining="199", x_tokenlimit_remaining_dynamic="12.9")


def test_unknown_headers_and_values_that_are_not_numbers_are_ignored():
    """The number of series is bounded, whatever headers a provider invents."""
    assert {} == gauges(
        x_ratelimit_limit="many",
        x_ratelimit_remaining="inf",
        x_tokenlimit_limit="-1",
        x_ratelimit_of_tuesdays="3",
    )
