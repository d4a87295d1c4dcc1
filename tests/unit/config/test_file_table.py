"""Tables of files: their rules, and error messages of one line."""

import re
from typing import Annotated

import pytest
from pydantic import Field

from togetherchat_server.config.file_table import FileTable, parse_toml, reject_unknown, rule


class Row(FileTable):
    """A table in a list."""

    size: Annotated[int, Field(ge=1), rule("must be a size of 1 or more")] = 1
    name: str = ""


class Document(FileTable):
    """The top level of a document."""

    rows: list[Row]
    by_name: dict[str, Row] = Field(default_factory=dict[str, Row])


def test_a_valid_document_is_read():
    """Members that are left out have their defaults."""
    document = parse_toml(b'[[rows]]\nsize = 2\n[by_name.a]\nname = "x"\n', Document)

    assert Document(rows=[Row(size=2)], by_name={"a": Row(name="x")}) == document


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "rows: is missing"),
        (b"rows = 1", "rows: must be a list"),
        (b"rows = [1]", "rows[0]: must be a table"),
        (b"rows = []\nby_name = 1", "by_name: must be a table"),
        (b"rows = [{}, {size = 0}]", "rows[1].size: must be a size of 1 or more"),
        (b"rows = [{size = '1'}]", "rows[0].size: must be a size of 1 or more"),
        (b"rows = [{name = 1}]", "rows[0].name: must be a valid string"),
        (b"rows = [{colour = 1}]", "rows[0]: unknown member 'colour'; known members: size, name"),
        (b"column = 1", "unknown member 'column'; known members: rows, by_name"),
        (b"rows = []\n[by_name.'a b']\nsize = 0", "by_name.'a b'.size: must be a size of 1 or more"),
        (b"rows = [", "not TOML in UTF-8: "),
        (b"\xff", "not TOML in UTF-8: "),
    ],
)
def test_an_invalid_document_is_rejected_with_the_member_and_the_rule(text, message):
    """The message is one line."""
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        parse_toml(text, Document)
    assert "\n" not in str(caught.value)


def test_a_long_name_is_not_repeated():
    """An operator may have put a key where a name belongs."""
    with pytest.raises(ValueError, match=r"unknown member \(a name of 67 characters\)"):
        reject_unknown({"k" * 67: 1}, known=("a",))
