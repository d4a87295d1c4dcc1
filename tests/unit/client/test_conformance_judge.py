"""The judge of the conformance cases finds what differs, and nothing else."""

import json

import pytest

from conformance import judge
from support.conformance import BESIDE, CASES

CHOICE = {
    "message": {
        "content": [{"text": "Hel"}, {"text": "lo"}],
        "toolCalls": [{"function": {"name": "put", "arguments": "{}"}}],
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
def test_what_is_as_expected_makes_no_difference(expected, actual):
    """An object may have more than was asked for; a list and a text may not."""
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
def test_what_is_not_as_expected_is_one_difference(expected, actual):
    """Types count: protobuf JSON writes a 64-bit number as a text, and True is not 1."""
    assert 1 == len(list(judge.differences(expected, actual)))


def test_a_difference_says_where():
    """By the path of what differs, with both sides."""
    assert ['usage.totalTokens: expected 3, saw "(missing)"'] == list(
        judge.differences({"usage": {"totalTokens": 3}}, {"usage": {}})
    )


def test_an_operator_that_is_none_is_an_error():
    """A slip in the cases does not pass as an expectation that holds."""
    with pytest.raises(ValueError, match=r"\$least"):
        list(judge.differences({"$least": 1}, 1))


def test_facts_are_read_out_of_an_answer():
    """What cases speak of most, without its place in the answer."""
    facts = judge.facts({"code": "OK", "answer": {"choices": [CHOICE]}, "violations": [["a.b", "why"]]})

    assert ("OK", "Hello", ["Hello"], "FINISH_REASON_STOP") == (
        facts["code"], facts["text"], facts["texts"], facts["finish_reason"],
    )  # fmt: skip
    assert ([["put", "{}"]], "18446744073709551615", ["a.b"]) == (
        facts["tool_calls"], facts["seed"], facts["violations"],
    )  # fmt: skip


def test_an_actor_is_not_told_what_is_expected():
    """Nor why; and what is to be repeated is written out."""
    raw = {
        "id": "a",
        "why": "b",
        "call": "Complete",
        "request": {"model": {"$repeat": ["xy", 2]}},
        "expect": {},
    }
    (case,) = judge.read_cases(json.dumps([raw]))

    assert {"id": "a", "call": "Complete", "request": {"model": "xyxy"}} == case.told


def test_a_page_token_comes_from_the_page_before():
    """A token is the server's own: no case can have it."""
    told = {"id": "b", "request": {"page_token": {"$page_after": "a"}}}

    assert {"id": "b", "request": {"page_token": "t"}} == judge.with_page_token(
        told, {"a": {"answer": {"nextPageToken": "t"}}}
    )


def test_a_cell_that_nobody_filled_is_a_hole():
    """In the table of cases and languages."""
    assert ["     go  java", "one  ok   ok", "two  ok  hole"] == judge.table(
        ["one", "two"], {"go": {"one": "ok", "two": "ok"}, "java": {"one": "ok"}}
    ).splitlines()


def test_every_case_has_a_name_of_its_own_and_expects_a_code():
    """Two cases of one name would share what the servers remember."""
    assert len(CASES) == len({case.id for case in CASES})
    assert [] == [case.id for case in CASES if "code" not in case.expect]


def test_every_expectation_is_one_that_is_looked_at():
    """A misspelt word would be missing on both sides of a comparison, or a difference for ever."""
    known = {*judge.facts({}), *BESIDE, "code", "reason", "message", "retryable", "retry_after_ms"}
    known |= {"error_metadata", "events", "answer"}

    assert set() == {word for case in CASES for word in case.expect} - known
