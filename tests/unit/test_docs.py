"""What the pages point at exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (ROOT, ROOT / "docs", ROOT / "deploy", *(ROOT / "clients").iterdir())
    for page in folder.glob("*.md")
)
BRIEF = Path(__file__).with_name("brief_lines.txt")
PROOF = re.compile(r"`(tests/[\w/.]+?)(?:::(\w+))?`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Relative links are files or folders of this repository."""
    linked = LINK.findall(page.read_text("utf-8"))

    assert [] == [target for target in linked if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_tests_exist(page):
    """A test that a page names as a proof is there under that name."""
    named = TEST.findall(page.read_text("utf-8"))

    assert [] == [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")]


def proofs():
    """The README's table of the brief: line -> the tests that prove it, as (file, name)."""
    readme = (ROOT / "README.md").read_text("utf-8")
    lines = readme.split("| line of the brief | the test that proves it |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in lines.splitlines()]
    return {line.replace("`", ""): PROOF.findall(tests) for line, tests in rows}


def test_every_line_of_the_brief_is_proved():
    """The table has the lines of the brief's copy, in its order, and no line is without a test."""
    lines = BRIEF.read_text("utf-8").splitlines()

    assert lines == list(proofs())
    assert [] == [line for line, tests in proofs().items() if not tests]


def test_the_proofs_of_the_brief_exist():
    """Files of tests, and in those of Python the test itself; a file of another language is one proof."""
    named = [proof for tests in proofs().values() for proof in tests]

    assert [] == [file for file, name in named if not name and not file.endswith(".test.mjs")]
    assert [] == [
        (file, name)
        for file, name in named
        if (f"def {name}(" if name else 'test("') not in (ROOT / file).read_text("utf-8")
    ]
