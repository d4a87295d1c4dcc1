"""A string that matches a regular expression."""

import re

import pytest

from togetherchat_sandbox.regex_sample import TEXT_CHARACTERS_MAX, regex_sample


@pytest.mark.parametrize(
    "pattern",
    [
        "yes|no",
        r"\d{3}-\d{4}",
        "(cat|dog)s?",
        "[A-Z][a-z]+",
        "[^a]x",
        r"^\w+@\w+\.com$",
        "(?:a|b){2,3}c*",
        "(?P<year>20[0-9]{2})-(?P<month>0[1-9])",
        "(positive|neutral|negative)",
        r"\(\d+\)",
        ".*",
        "a{2,}?b++",
        "",
    ],
)
def test_the_sample_matches(pattern):
    """The pattern matches the whole sample."""
    assert re.fullmatch(pattern, regex_sample(pattern))


@pytest.mark.parametrize(
    "pattern", ["(", "[", "\\", "a{", "a{x}", ")", "|", "(?", "(?P<", "[^", "((((" * 50, "*"]
)
def test_an_invalid_pattern_yields_a_short_text(pattern):
    """An invalid regular expression still yields a short text."""
    assert len(regex_sample(pattern)) <= 4


def test_the_length_is_bounded():
    """Nested counts cannot exceed the bound."""
    assert TEXT_CHARACTERS_MAX == len(regex_sample("((a{1000}){1000}){1000}"))
