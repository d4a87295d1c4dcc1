"""Tests of the judge of the conformance cases."""

import json
import re

import pytest

from conformance import judge
from support.conformance import ARGUMENTS, BESIDE, CASES

CHOICE = {
    "message": {
        "content": [{"text": "Hel"}, {"text": "lo"}],
        "toolCalls": [{"function": {"name": "put", "arguments": "{}"}}],
        "reasoningField": "REASONING_FIELD_REASONING",
    },
    "finishReason": "FINISH_REASON_STOP",
    "seed": "18446744073709551615",
}


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("OK", "OK"),
        (None, None),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": []}}, {"a": {"b": []}}),
        ({"$min": 2}, 2),
        ({"$min": 2}, "2"),
        ({"$min": 1, "$max": 3}, 3),
        ({"$any_of": ["x", ""]}, ""),
        ({"$count": 2}, ["a", "b"]),
        ({"$matches": "^a"}, "ab"),
        ({"absent": "(missing)"}, {}),
    ],
)
def test_a_matching_observation_has_no_differences(expected, actual):
    """An object may have more members than expected. A list or a string may not be longer."""
    assert [] == list(judge.differences(expected, actual))


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("OK", "INTERNAL"),
        (None, 0),
        (1, True),
        ("1", 1),
        ({"a": 1}, {}),
        ({"a": {"b": 1}}, {"a": None}),
        (["a"], ["a", "b"]),
        ({"$min": 2}, 1),
        ({"$min": 2}, None),
        ({"$min": 1, "$max": 3}, 4),
        ({"$any_of": ["x", ""]}, "y"),
        ({"$count": 2}, ["a"]),
        ({"$matches": "^a"}, "ba"),
        ({"absent": "(missing)"}, {"absent": "there"}),
    ],
)
def test_a_mismatch_is_one_difference(expected, actual):
    """Types must match: protobuf JSON writes a 64-bit number as a string, and True is not 1."""
    assert 1 == len(list(judge.differences(expected, actual)))


def test_a_difference_has_the_path():
    """The text has the path, the expected value and the observed value."""
    assert ['usage.totalTokens: expected 3, observed "(missing)"'] == list(
        judge.differences({"usage": {"totalTokens": 3}}, {"usage": {}})
    )


def test_an_unknown_operator_is_an_error():
    """A typo in the cases must not pass as a fulfilled expectation."""
    with pytest.raises(ValueError, match=r"\$least"):
        list(judge.differences({"$least": 1}, 1))


def test_facts_are_extracted_from_a_response():
    """Cases name common values directly, without their path in the response."""
    facts = judge.facts({"code": "OK", "response": {"choices": [CHOICE]}, "violations": [["a.b", "why"]]})

    assert ("OK", "Hello", ["Hello"], "FINISH_REASON_STOP") == (
        facts["code"], facts["text"], facts["texts"], facts["finish_reason"],
    )  # fmt: skip
    assert ([["put", "{}"]], "18446744073709551615", ["a.b"]) == (
        facts["tool_calls"], facts["seed"], facts["violations"],
    )  # fmt: skip
    assert ("REASONING_FIELD_REASONING", {}) == (facts["reasoning_field"], facts["timings"])


def test_the_ids_of_listed_models_are_facts():
    """A case about an order names the ids."""
    facts = judge.facts({"response": {"models": [{"id": "b"}, {"id": "a"}]}})

    assert ["b", "a"] == facts["models"]


def test_an_actor_does_not_receive_the_expectation():
    """`expect` and `why` are left out, and `$repeat` is expanded."""
    raw = {
        "id": "a",
        "why": "b",
        "call": "Complete",
        "request": {"model": {"$repeat": ["xy", 2]}},
        "expect": {},
    }
    (case,) = judge.read_cases(json.dumps([raw]))

    assert {"id": "a", "call": "Complete", "request": {"model": "xyxy"}} == case.actor_input


def test_a_page_token_is_taken_from_the_previous_page():
    """The server creates the token, so a case cannot contain it."""
    actor_input = {"id": "b", "request": {"page_token": {"$page_after": "a"}}}

    assert {"id": "b", "request": {"page_token": "t"}} == judge.with_page_token(
        actor_input, {"a": {"response": {"nextPageToken": "t"}}}
    )


def test_a_case_without_a_result_is_shown_as_missing():
    """The table of cases and languages has a row per case and a column per language."""
    assert ["     go  java", "one  ok   ok", "two  ok  missing"] == judge.table(
        ["one", "two"], {"go": {"one": "ok", "two": "ok"}, "java": {"one": "ok"}}
    ).splitlines()


def test_case_ids_are_unique_and_every_case_expects_a_code():
    """Two cases with one id would share the calls that the servers recorded."""
    assert len(CASES) == len({case.id for case in CASES})
    assert [] == [case.id for case in CASES if "code" not in case.expect]


def test_every_key_of_an_expectation_is_known():
    """A misspelt key would be compared with nothing, or fail in every language."""
    known = {*judge.facts({}), *BESIDE, "code", "reason", "message", "retryable", "retry_after_ms", "hint"}
    known |= {"error_metadata", "resource_name", "events", "response"}

    assert set() == {key for case in CASES for key in case.expect} - known


def argument_cases(language):
    return judge.read_argument_cases(ARGUMENTS, language)


@pytest.mark.parametrize("language", ["python", "go", "typescript", "java"])
def test_the_messages_about_arguments_have_no_placeholder_left(language):
    """Each placeholder has a value in each language, and no two cases have the same id."""
    cases = argument_cases(language)
    messages = [str(case.expect["message"]) for case in cases]

    assert [] == [message for message in messages if re.search(r"[{}]|: : |^: ", message)]
    assert len(cases) == len({case.id for case in cases})


def test_a_message_has_the_names_of_its_language():
    """The rule is the same, and the argument has the language's name."""
    found = {
        language: next(str(case.expect["message"]) for case in argument_cases(language) if case.id == wanted)
        for language, wanted in (
            ("python", "argument timeout-zero"),
            ("typescript", "argument timeout-zero"),
            ("go", "argument upstream-key-empty"),
        )
    }

    assert {
        "python": "timeout_s: must be above 0 and at most one day; leave it out for the default",
        "typescript": "timeoutMs: must be above 0 and at most one day; leave it out for the default",
        "go": "togetherchat: upstreamKey: must not be empty; leave it out to send no key",
    } == found


def test_every_message_about_arguments_has_a_case():
    """A rule without a case would differ between the languages unnoticed."""
    listed = json.loads(ARGUMENTS)

    assert set(listed["messages"]) == {case["message"] for case in listed["cases"] if "message" in case}
