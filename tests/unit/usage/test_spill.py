"""Rows as lines of files: whatever happens to a file, the other lines are read."""

import dataclasses

import pytest

from support.usage import mixed_rows, usage_row
from togetherchat_server.usage.spill import decode, encode, read_rows, storable

ROWS = mixed_rows(20)


def test_rows_are_read_as_they_were_written():
    """With every field."""
    assert (ROWS, 0) == decode(encode(ROWS))


def test_a_file_that_ends_anywhere_has_all_complete_rows():
    """As a process that is killed leaves it."""
    content = encode(ROWS[:3])
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content) + 1):
        rows, damaged = decode(content[:size])
        complete = sum(size >= end - 1 for end in ends)

        assert ROWS[:complete] == rows
        assert damaged == (0 if size in {0, *ends, *(end - 1 for end in ends)} else 1)


def test_a_damaged_byte_costs_its_line_only():
    """Or two, if it was a line feed."""
    content = encode(ROWS[:3])
    for position in range(0, len(content), 7):
        broken = content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
        rows, damaged = decode(broken)

        assert all(row in ROWS for row in rows)
        assert len(rows) >= 1
        assert damaged >= 1


def test_members_of_another_version_are_left_out():
    """A newer version may have written the file; a line without a member of this version is damaged."""
    text = encode([usage_row()])[9:-1]
    newer = text.replace(b'"id":', b'"new":1,"id":')
    older = text.replace(b'"attempts":1,', b"")

    assert ([usage_row()], 1) == decode(line(newer) + line(older))


def line(text):
    from togetherchat_server.usage.spill import _line  # noqa: PLC0415

    return _line(text)


@pytest.mark.parametrize("text", [b"[]", b"1", b"null", b'{"id":1}', b"\xff", b""])
def test_a_line_that_is_no_row_is_damaged(text):
    """Although its checksum is right."""
    assert ([], 1) == decode(line(text))


def test_a_row_that_can_be_stored_stays_the_same_object():
    """The common case costs little."""
    row = usage_row()

    assert storable(row) is row


def test_every_text_and_number_can_be_made_storable():
    """A row that the database rejects would be lost."""
    for field in dataclasses.fields(usage_row()):
        value = getattr(usage_row(), field.name)
        odd = "\0\ud800" if isinstance(value, str) else True if isinstance(value, bool) else -(2**90)
        fixed = storable(dataclasses.replace(usage_row(), **{field.name: odd}))

        assert ([fixed], 0) == decode(encode([fixed]))


def test_a_missing_file_is_an_error(tmp_path):
    """The caller knows how many rows it had."""
    with pytest.raises(FileNotFoundError):
        read_rows(tmp_path / "missing")
