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
