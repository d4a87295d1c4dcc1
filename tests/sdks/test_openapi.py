"""Tests of the OpenAPI description with schemathesis: every response is schema, and none is a 500."""

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
WITHOUT_PARAMETERS = {"/", "/console/stats"}
"""Operations that cannot have an invalid request."""
CASES = [
    (path, method, mode)
    for path, method in OPERATIONS
    for mode in GenerationMode
    if mode is not GenerationMode.NEGATIVE or path not in WITHOUT_PARAMETERS
]


@pytest.fixture(scope="module")
def schema(served):
    return schemathesis.openapi.from_url(served.base_url.removesuffix("/v1") + "/openapi.json")


def test_every_operation_is_tested(schema):
    """OPERATIONS lists every operation of the description."""
    assert set(OPERATIONS) == {
        (found.ok().path, found.ok().method.upper()) for found in schema.get_all_operations()
    }


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_every_response_matches_the_description(schema, path, method, mode):
    """Responses to valid and to invalid requests match the description."""

    @BOUNDED
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def responses_match(case):
        # Some rules are not in the schema (a role that cannot have an image): the service rejects what the schema allows.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    responses_match()
