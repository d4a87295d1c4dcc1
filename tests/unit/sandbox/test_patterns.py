"""A literal that fits a regular expression."""

import re

import pytest

from togetherchat_sandbox.patterns import TEXT_CHARACTERS_MAX, literal


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
def test_the_literal_fits(pattern):
    """The pattern matches the whole of what was made for it."""
    assert re.fullmatch(pattern, literal(pattern))


@pytest.mark.parametrize(
    "pattern", ["(", "[", "\\", "a{", "a{x}", ")", "|", "(?", "(?P<", "[^", "((((" * 50, "*"]
)
def test_a_broken_pattern_does_no_harm(pattern):
    """What is no regular expression still ends with some short text."""
    assert len(literal(pattern)) <= 4


def test_counts_cannot_make_it_grow():
    """Nested counts are cut at a bound."""
    assert TEXT_CHARACTERS_MAX == len(literal("((a{1000}){1000}){1000}"))
