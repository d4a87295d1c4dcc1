"""The door's own description: schemathesis finds no answer that it does not describe, and no 500."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

BOUNDED = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
OPERATIONS = [
    ("/v1/chat/completions", "POST"),
    ("/v1/models", "GET"),
    ("/v1/models/{id}", "GET"),
    ("/", "GET"),
    ("/console/stats", "GET"),
    ("/console/models", "GET"),
]
NOTHING_TO_GET_WRONG = {"/", "/console/stats"}
"""They take no parameter."""
CASES = [
    (path, method, mode)
    for path, method in OPERATIONS
    for mode in GenerationMode
    if mode is not GenerationMode.NEGATIVE or path not in NOTHING_TO_GET_WRONG
]


@pytest.fixture(scope="module")
def described(served):
    return schemathesis.openapi.from_url(served.base_url.removesuffix("/v1") + "/openapi.json")


def test_every_operation_is_tried(described):
    """One that is added to the description is added here."""
    assert set(OPERATIONS) == {
        (found.ok().path, found.ok().method.upper()) for found in described.get_all_operations()
    }


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_every_answer_is_as_described(described, path, method, mode):
    """Whatever fits the description, and whatever does not."""

    @BOUNDED
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def answered(case):
        # Rules that no schema says (a role may have no picture) refuse what the schema lets through.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    answered()
