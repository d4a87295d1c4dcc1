"""The page about the sandbox says what the sandbox does."""

from pathlib import Path

from togetherchat_sandbox.misbehaviour import table_markdown

PAGE = Path(__file__).parents[3] / "docs" / "sandbox.md"


def test_the_table_is_the_table():
    """The page holds the table of names as `togetherchat-sandbox --names` prints it."""
    assert table_markdown() in PAGE.read_text()
