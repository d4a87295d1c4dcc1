"""Which response headers are passed on as rate limits."""

import pytest

from togetherchat_server.providers.together.rate_limits import from_headers


def test_the_documented_headers_are_selected_unchanged():
    """All nine documented headers are selected, in their order, and nothing else."""
    names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
    names += ["x-tokenlimit-limit", "x-tokenlimit-remaining"]
    names += [
        f"x-{kind}limit-{word}-dynamic" for kind in ("rate", "token") for word in ("limit", "remaining")
    ]
    headers = {"content-type": "application/json", **dict.fromkeys(names, "1.5"), "retry-after": "1"}
    assert tuple((name, "1.5") for name in names) == from_headers(headers)


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-a!b",
        "x-ratelimit-",
        "x-ratelimit-key-bin",
        "x-ratelimit-" + "a" * 41,
        "x-ratelimits",
        "ratelimit-limit",
    ],
)
def test_a_name_that_is_invalid_in_a_trailer_is_left_out(name):
    """An invalid trailer would cost the caller the whole response."""
    assert () == from_headers({name: "1"})


@pytest.mark.parametrize("value", ["", "a b", "é", "1" * 65])
def test_a_value_that_is_not_a_short_word_is_left_out(value):
    """Limits are numbers, sometimes with a unit."""
    assert () == from_headers({"x-ratelimit-limit": value})


def test_at_most_sixteen_headers_are_selected():
    """Trailers are bounded, and the status needs room in them."""
    headers = {f"x-ratelimit-{'a' * number}": "1" for number in range(1, 40)}
    assert 16 == len(from_headers(headers))
