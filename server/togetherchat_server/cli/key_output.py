"""The output of `togetherchat-server keys`: what may be shown of a key, as a table, in lines or as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final, TextIO

from togetherchat_server.domain.identity import KEY_SCOPES, SCOPES
from togetherchat_server.tenants.key_file import KeyLine
from togetherchat_server.tenants.key_state import expires_s, state_of

NOTHING: Final = "-"
COLUMNS: Final = ("id", "tenant", "state", "scopes", "models", "networks", "created", "expires", "label")
COUNTED: Final = frozenset({"models", "networks"})
"""Columns that have the number of items: the items would make the table too wide."""

_LAST_S: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

ShownKey = Mapping[str, str | Sequence[str]]
"""The members of a key's line and its state, without its hash."""


def shown(line: KeyLine, now: datetime, *, max_age_s: float | None) -> ShownKey:
    """Return what may be shown of a key: not its secret, nor the hash.

    The scopes and the expiry are those in effect, whether the file names them or not.
    """
    members = asdict(line)
    del members["digest"]
    end_s = expires_s(line, max_age_s=max_age_s)
    return {
        **members,
        "expires": "" if end_s is None else iso(datetime.fromtimestamp(min(end_s, _LAST_S), UTC)),
        "scopes": line.scopes or tuple(name for name, scope in SCOPES.items() if scope in KEY_SCOPES),
        "state": state_of(line, now_s=now.timestamp(), max_age_s=max_age_s),
    }


def iso(moment: datetime) -> str:
    """Return a time as the file has it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def print_json(value: object, out: TextIO, *, indent: int | None = None) -> None:
    print(json.dumps(value, indent=indent), file=out)


def print_table(keys: Sequence[ShownKey], out: TextIO) -> None:
    """Print a heading and a line for each key."""
    rows = [[name.upper() for name in COLUMNS], *([_cell(name, key) for name in COLUMNS] for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(text.rstrip(), file=out)


def print_key(key: ShownKey, out: TextIO) -> None:
    """Print each member of one key on a line of its own."""
    width = max(map(len, key))
    for name, value in key.items():
        print(f"{name.ljust(width)}  {_text(value)}", file=out)


def _cell(name: str, key: ShownKey) -> str:
    value = key[name]
    return str(len(value)) if value and name in COUNTED else _text(value, ",")


def _text(value: str | Sequence[str], separator: str = ", ") -> str:
    return (value if isinstance(value, str) else separator.join(value)) or NOTHING
