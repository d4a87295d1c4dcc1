"""The tokeniser splits text as finely as a real one, without loss."""

from hypothesis import given
from hypothesis import strategies as st

from togetherchat_sandbox.prng import random_bits
from togetherchat_sandbox.tokens import (
    count_tokens,
    log_probability,
    token_id,
    tokenize,
    top_log_probabilities,
)

RANDOM_BITS = 0x44531534DDF0C874
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(ANY_TEXT)
def test_joined_tokens_are_the_text(text):
    """The joined tokens of any text equal the text."""
    assert text == "".join(tokenize(text))


@given(ANY_TEXT)
def test_count_is_the_number_of_tokens(text):
    """The count equals the number of tokens."""
    assert len(tokenize(text)) == count_tokens(text)


def test_a_token_is_a_word_or_a_part():
    """A token is at most a word, with the space before it."""
    assert ("Hello", ",", " world", "!") == tokenize("Hello, world!")


def test_line_separators_are_text_like_any_other():
    """U+2028, which some clients treat as a line end, is preserved."""
    assert "a\u2028b" == "".join(tokenize("a\u2028b"))


def test_same_token_same_identifier():
    """A token has one id, whatever its neighbours are."""
    assert token_id(" cat") == token_id(" cat") != token_id(" dog")


def test_probabilities_are_logarithms():
    """Every log probability lies between -2 and 0."""
    assert all(
        -2 <= log_probability(token, place) <= 0 for place, token in enumerate(tokenize("a b c d e f g"))
    )


def test_the_token_itself_is_the_likeliest():
    """Among the alternatives the chosen token comes first and is the likeliest."""
    rivals = top_log_probabilities(" cat", 3, 4)
    assert [" cat", 4, log_probability(" cat", 3)] == [next(iter(rivals)), len(rivals), max(rivals.values())]


def test_random_bits_depend_on_their_parts_alone():
    """The same parts give the same 64 bits in every process; other parts give others."""
    assert RANDOM_BITS == random_bits(1, "a") != random_bits(1, "b")
