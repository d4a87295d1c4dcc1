"""The table of models with faults."""

import pytest

from togetherchat_sandbox.api_errors import ERRORS
from togetherchat_sandbox.behaviour import ORDINARY, PREFIX, Behaviour
from togetherchat_sandbox.faults import LONG_TOKENS_MAX, SANDBOX_MODELS, behaviour_of


def test_every_error_has_a_model():
    """Each error of the table of errors can be requested by a model id."""
    assert set(ERRORS) <= {row.name.removeprefix("error-") for row in SANDBOX_MODELS}


def test_names_are_unique():
    """No name occurs twice."""
    assert len({row.name for row in SANDBOX_MODELS}) == len(SANDBOX_MODELS)


@pytest.mark.parametrize("row", SANDBOX_MODELS, ids=lambda row: row.name)
def test_every_row_is_found_by_its_id(row):
    """Each row is found by its own id (its example, for a family), not by the id of another row."""
    expected = row.behaviour if isinstance(row.behaviour, Behaviour) else row.pattern
    found = behaviour_of(row.model)
    assert expected is found or (expected and expected.fullmatch(row.example) and found != ORDINARY)


@pytest.mark.parametrize("row", SANDBOX_MODELS, ids=lambda row: row.name)
def test_descriptions_fit_a_table_cell(row):
    """A description ends with a full stop and contains neither a line break nor a bar."""
    assert (True, False) == (row.description.endswith("."), "\n" in row.description or "|" in row.description)


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
def test_other_ids_are_ordinary(model):
    """Only the ids of the table change the behaviour."""
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
def test_errors_by_status(status, times, name):
    """Any error status can be requested, for all requests or for the first N."""
    behaviour = behaviour_of(PREFIX + name)
    assert (status, times) == (behaviour.error.status, behaviour.errors_max)


def test_a_temporary_429_has_a_short_retry_after():
    """The first N errors have `retry-after-ms: 50`, so that tests of retries are quick."""
    assert {"retry-after-ms": "50"} == behaviour_of("sandbox/error-429-x2").error.headers


def test_length_is_bounded():
    """A completion has at most a million tokens."""
    assert LONG_TOKENS_MAX == behaviour_of("sandbox/long-9999999").overrides.tokens
