"""The tokeniser cuts text as finely as a real one, and loses none of it."""

from hypothesis import given
from hypothesis import strategies as st

from togetherchat_sandbox.tokens import alternatives, count, log_probability, roll, split, token_id

ROLLED = 0x44531534DDF0C874
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(ANY_TEXT)
def test_joined_tokens_are_the_text(text):
    """Whatever the text, its tokens joined are the text again."""
    assert text == "".join(split(text))


@given(ANY_TEXT)
def test_count_is_the_number_of_tokens(text):
    """Counting without keeping gives the same number."""
    assert len(split(text)) == count(text)


def test_tokens_are_words_and_parts_of_words():
    """A token is about a word, with the space before it."""
    assert ("Hello", ",", " world", "!") == split("Hello, world!")


def test_line_separators_are_text_like_any_other():
    """U+2028, which some clients take for a line end, stays where it is."""
    assert "a\u2028b" == "".join(split("a\u2028b"))


def test_same_token_same_identifier():
    """A token has one identifier, whatever stands around it."""
    assert token_id(" cat") == token_id(" cat") != token_id(" dog")


def test_probabilities_are_logarithms():
    """Every log probability lies between -2 and 0."""
    assert all(-2 <= log_probability(token, place) <= 0 for place, token in enumerate(split("a b c d e f g")))


def test_the_token_itself_is_the_likeliest():
    """Among the alternatives the chosen token comes first and is the likeliest."""
    rivals = alternatives(" cat", 3, 4)
    assert [" cat", 4, log_probability(" cat", 3)] == [next(iter(rivals)), len(rivals), max(rivals.values())]


def test_chance_depends_on_its_parts_alone():
    """The same parts give the same 64 bits, in every process; other parts give others."""
    assert ROLLED == roll(1, "a") != roll(1, "b")
