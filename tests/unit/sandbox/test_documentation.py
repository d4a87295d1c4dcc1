"""docs/sandbox.md matches the sandbox."""

from pathlib import Path

from togetherchat_sandbox.faults import table_markdown

PAGE = Path(__file__).parents[3] / "docs" / "sandbox.md"


def test_the_page_contains_the_table():
    """The page contains the table that `togetherchat-sandbox --list-models` prints."""
    assert table_markdown() in PAGE.read_text()
