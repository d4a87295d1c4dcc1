"""The provider's headers for debugging."""

from togetherchat_server.providers.together.debug_headers import NAMES, from_headers


def test_the_named_headers_are_selected():
    """Others are not passed on."""
    headers = dict.fromkeys(NAMES, "v") | {"server": "x", "x-cluster-secret": "x", "set-cookie": "x"}

    assert tuple((name, "v") for name in NAMES) == from_headers(headers)


def test_a_value_that_a_trailer_cannot_carry_is_left_out():
    """One illegal character would cost the caller its status."""
    headers = {
        "x-cluster": "a\tb",
        "x-engine-pod": "\xe9",
        "x-api-received": "",
        "x-inference-version": "v" * 129,
    }

    assert () == from_headers(headers)
    assert (("x-api-call-end", "2026-11-30 13:00:00Z"),) == from_headers(
        {"x-api-call-end": "2026-11-30 13:00:00Z"}
    )
