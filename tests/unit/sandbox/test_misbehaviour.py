"""The table of names that misbehave."""

import pytest

from togetherchat_sandbox.behaviour import ORDINARY, PREFIX, Behaviour
from togetherchat_sandbox.misbehaviour import LONG_TOKENS_MAX, NAMES, behaviour_of
from togetherchat_sandbox.refusals import REFUSALS


def test_every_error_of_the_table_has_a_name():
    """What can be refused can be asked for."""
    assert set(REFUSALS) <= {row.name.removeprefix("error-") for row in NAMES}


def test_no_name_twice():
    """A name means one thing."""
    assert len({row.name for row in NAMES}) == len(NAMES)


@pytest.mark.parametrize("row", NAMES, ids=lambda row: row.name)
def test_every_name_does_what_its_row_says(row):
    """Each row is found by its own id (its example, for a family), not by another row."""
    expected = row.does if isinstance(row.does, Behaviour) else row.pattern
    found = behaviour_of(row.model)
    assert expected is found or (expected and expected.fullmatch(row.example) and found != ORDINARY)


@pytest.mark.parametrize("row", NAMES, ids=lambda row: row.name)
def test_every_sentence_is_one_sentence(row):
    """A row says what happens, in a sentence that fits a cell of a table."""
    assert (True, False) == (row.says.endswith("."), "\n" in row.says or "|" in row.says)


@pytest.mark.parametrize(
    "model",
    [
        "some/model",
        "sandbox/",
        "sandbox/unheard-of",
        "error-500",
        "sandbox/error-200",
        "sandbox/error-429-x",
        "my/sandbox/stall",
    ],
)
def test_other_names_are_ordinary(model):
    """Any model answers; only the names of the table misbehave."""
    assert ORDINARY is behaviour_of(model)


@pytest.mark.parametrize(
    ("status", "times", "name"),
    [
        (418, None, "error-418"),
        (599, None, "error-599"),
        (503, 3, "error-503-x3"),
        (429, 1, "error-429-quota-x1"),
        (418, 12, "error-418-x12"),
    ],
)
def test_errors_by_number(status, times, name):
    """Any error status can be asked for, and any of them for the first N requests."""
    behaviour = behaviour_of(PREFIX + name)
    assert (status, times) == (behaviour.refusal.status, behaviour.refusals_max)


def test_a_passing_429_asks_for_a_short_wait():
    """The first N refusals hint at 50 ms, so that tests of retries are quick."""
    assert {"retry-after-ms": "50"} == behaviour_of("sandbox/error-429-x2").refusal.headers


def test_length_is_bounded():
    """Nobody gets more than a million tokens."""
    assert LONG_TOKENS_MAX == behaviour_of("sandbox/long-9999999").wishes.tokens
