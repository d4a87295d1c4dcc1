"""What is sent instead of a reasoning effort that the model does not know."""

import pytest

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.providers.together.reasoning_effort import TOGGLE, WORDS, replacement

ADJUSTABLE = models.Model(
    id="adjustable", features=["reasoning"], reasoning_efforts=["low", "medium", "high"]
)
HYBRID = models.Model(id="hybrid", features=["reasoning", TOGGLE])
BOTH = models.Model(
    id="both", features=["reasoning", TOGGLE], reasoning_efforts=["low", "medium", "high", "max"]
)
STRONG = models.Model(id="strong", features=["reasoning", TOGGLE], reasoning_efforts=["high", "max"])
UNEVEN = models.Model(id="uneven", features=["reasoning"], reasoning_efforts=["low", "high", "max"])
KNOWS_NONE = models.Model(id="knows", features=["reasoning", TOGGLE], reasoning_efforts=["none", "high"])
UNKNOWN = models.Model(id="unknown")
OFF = ("", False)


def replaced(entry, word, **fields):
    """Return the effort and the switch that replace the caller's; None if it is sent unchanged."""
    effort = replacement(service.CompleteRequest(model=entry.id, reasoning_effort=word, **fields), entry)
    return None if effort is None else (effort.word, effort.enabled)


@pytest.mark.parametrize(
    ("entry", "sent"),
    [
        (ADJUSTABLE, {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}),
        (HYBRID, {"none": OFF}),
        (BOTH, {"none": OFF, "minimal": "low", "xhigh": "max"}),
        (STRONG, {"none": OFF, "minimal": "high", "low": "high", "medium": "high", "xhigh": "max"}),
        (UNEVEN, {"none": "low", "minimal": "low", "medium": "high", "xhigh": "max"}),
        (KNOWS_NONE, {"minimal": "high", "low": "high", "medium": "high", "xhigh": "high", "max": "high"}),
        (UNKNOWN, {}),
    ],
    ids=lambda value: value.id if isinstance(value, models.Model) else "",
)
def test_every_word_by_class_of_model(entry, sent):
    """A word that the model knows is unchanged; another becomes the next stronger one, or the strongest."""
    expected = {word: value if value == OFF else (value, None) for word, value in sent.items()}

    assert expected == {word: made for word in WORDS if (made := replaced(entry, word)) is not None}


@pytest.mark.parametrize("word", ["", "banana", "NONE", "ultra"])
def test_an_unknown_word_is_unchanged(word):
    """The provider judges a word that no model of the catalog knows."""
    assert replaced(ADJUSTABLE, word) is None
    assert replaced(STRONG, word) is None


@pytest.mark.parametrize("enabled", [False, True])
def test_a_caller_that_switches_reasoning_itself_keeps_its_none(enabled):
    """Its other words are replaced, since the switch does not concern them."""
    assert replaced(STRONG, "none", reasoning_enabled=enabled) is None
    assert replaced(ADJUSTABLE, "none", reasoning_enabled=enabled) is None
    assert ("high", None) == replaced(STRONG, "low", reasoning_enabled=enabled)


def test_the_warning_names_the_model_and_both_words():
    """A caller learns what was sent."""
    for entry, word, words in (
        (ADJUSTABLE, "max", ["adjustable", "max", "high"]),
        (ADJUSTABLE, "none", ["adjustable", "none", "low"]),
        (HYBRID, "none", ["hybrid", "none", "reasoning.enabled false"]),
    ):
        effort = replacement(service.CompleteRequest(reasoning_effort=word), entry)
        assert effort is not None
        assert all(part in effort.warning for part in words)
