"""The table of clients and features that the SDKs' tests write."""

import json
from dataclasses import replace

import pytest

from sdks.integrations import FEATURES, Line, append_line, differs, page, problems, read_lines, setup_of

SOURCE = "tests/sdks/test_x.py"
YES = Line(client="x (Python)", feature="call", result="yes", source=SOURCE)
LINES = [replace(YES, feature=feature) for feature in FEATURES]
SETUPS = {"x (Python)": "client = X(base_url)"}
NOT_OFFERED = replace(YES, feature="cancel", result="n/a", reason="X cannot leave a stream.")


def test_lines_are_read_as_written(tmp_path):
    """Lines survive the file, sorted by client."""
    other = replace(YES, client="A (Python)")
    for line in (YES, NOT_OFFERED, other):
        append_line(tmp_path / "lines", line)

    assert [other, YES, NOT_OFFERED] == read_lines([tmp_path / "lines"])
    assert "reason" not in json.loads((tmp_path / "lines").read_text().splitlines()[0])


def test_every_feature_once_is_right():
    """A client with every feature, of which one is not offered, has no problem."""
    assert [] == problems([*LINES[:-1], NOT_OFFERED], SETUPS)


@pytest.mark.parametrize(
    ("expected", "lines"),
    [
        (["x (Python): cancel: no test proved it"], LINES[:-1]),
        (["x (Python): call: 2 lines"], [*LINES, YES]),
        (["x (Python): flight: not a feature"], [*LINES, replace(YES, feature="flight")]),
        (
            ["x (Python): cancel: must be `yes`, or `n/a` with a reason"],
            [*LINES[:-1], replace(NOT_OFFERED, reason="")],
        ),
    ],
)
def test_each_problem_is_named(expected, lines):
    """Missing, duplicate and unknown features and missing reasons are named."""
    assert expected == problems(lines, SETUPS)


def test_a_client_without_a_setup_is_a_problem():
    """Every client has a set-up."""
    assert 1 == len(problems(LINES, {"x (Python)": ""}))


@pytest.mark.parametrize(
    ("expected", "source"),
    [
        ("x = 1\n  y", "a\n    # docs: begin\n    x = 1\n      y\n    # docs: end\nb"),
        ("const x", "// docs: begin\nconst x\n// docs: end\n"),
        ("right", "# docs: begin y (Go)\nwrong\n# docs: end\n# docs: begin x (Python)\nright\n# docs: end\n"),
        ("", "nothing"),
    ],
)
def test_the_setup_is_the_marked_text(expected, source):
    """The set-up is the dedented text between the markers, those of the client if it is named."""
    assert expected == setup_of(source, "x (Python)")


def test_the_page_has_a_row_and_a_section():
    """A client has a row of results, its set-up, and the reason for what it does not offer."""
    text = page([*LINES[:-1], NOT_OFFERED], SETUPS)

    assert "| x (Python) | yes | yes | yes | yes | yes | n/a |" in text
    assert "```python\nclient = X(base_url)\n```\n\nNo *cancel*: X cannot leave a stream.\n" in text


def test_without_all_languages_only_the_clients_that_ran_are_compared():
    """A page with further clients is right where their suites did not run, and wrong where all ran."""
    more = [replace(line, client="y (Go)") for line in LINES]
    whole = page([*LINES, *more], {**SETUPS, "y (Go)": "y"})

    assert [False, True] == [differs(LINES, SETUPS, whole, complete=complete) for complete in (False, True)]
    assert differs(LINES, {"x (Python)": "another"}, whole, complete=False)
