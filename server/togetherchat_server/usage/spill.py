"""Rows as lines of a file: a checksum, a space, and a JSON object.

A process that is killed may leave an incomplete last line, and a full disk or a damaged one any bytes. Such
lines are skipped and counted.
"""

import dataclasses
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import orjson

from togetherchat_server.usage.row import LedgerRow

_DIGITS: Final = 8
_FIELDS: Final = frozenset(field.name for field in dataclasses.fields(LedgerRow))
_TEXTS: Final = tuple(field.name for field in dataclasses.fields(LedgerRow) if field.type in {str, "str"})
_NUMBERS: Final = tuple(sorted(_FIELDS - {*_TEXTS, "estimated"}))
_NUMBER_MAX: Final = 2**63 - 1
_NUL: Final = b"\\u0000"


def encode(rows: Iterable[LedgerRow]) -> bytes:
    """Return the lines of the rows."""
    return b"".join(_line(orjson.dumps(row)) for row in rows)


def storable(row: LedgerRow) -> LedgerRow:
    """Return the row as every database can store it: without NUL and broken characters, in 64 bits."""
    try:
        if _NUL not in orjson.dumps(row):
            return row
    except (TypeError, ValueError):
        pass
    texts = {name: _text(getattr(row, name)) for name in _TEXTS}
    numbers = {name: _number(getattr(row, name)) for name in _NUMBERS}
    return dataclasses.replace(row, **texts, **numbers)


def decode(content: bytes) -> tuple[list[LedgerRow], int]:
    """Return the rows, and the number of lines that are damaged. An incomplete last line is one."""
    rows = list[LedgerRow]()
    damaged = 0
    for line in content.split(b"\n"):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif line:
            damaged += 1
    return rows, damaged


def read_rows(path: Path) -> tuple[list[LedgerRow], int]:
    """Return the rows of a file, and the number of damaged lines. Raises OSError."""
    return decode(path.read_bytes())


def _line(text: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _row(line: bytes) -> LedgerRow | None:
    checksum, text = line[:_DIGITS], line[_DIGITS + 1 :]
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        members = orjson.loads(text)
        # Another version may have written the line: members that this one does not know are left out.
        return LedgerRow(**{name: value for name, value in members.items() if name in _FIELDS})
    except (AttributeError, TypeError, ValueError):
        return None


def _text(text: str) -> str:
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _number(number: int | None) -> int | None:
    return None if number is None else max(-_NUMBER_MAX, min(number, _NUMBER_MAX))
