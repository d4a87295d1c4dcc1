"""`togetherchat-server keys create|list|revoke`: makes keys, shows what is known of them, ends them.

A key is shown once, when it is made, on standard output alone. Everything else is said on standard
error. Status 0: done; 1: it could not be done; 2: the words are wrong.
"""

import argparse
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn, TextIO, final

from togetherchat_server.tenants.key_file import (
    LABEL_CHARACTERS_MAX,
    TENANT_RULE,
    KeyLine,
    KeyTable,
    is_tenant_name,
    one_writer,
    read_keys,
    seconds_of,
    write_keys,
)
from togetherchat_server.tenants.key_format import ID_BYTES, SECRET_BYTES, format_key

VARIABLE: Final = "TOGETHERCHAT_API_KEYS_FILE"
DONE, FAILED, USAGE = 0, 1, 2

_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})([dh])")
_UNITS: Final = {"d": "days", "h": "hours"}
_ID: Final = re.compile(r"(?:tc_)?([0-9a-f]{12})(?:_.*)?")
_COLUMNS: Final = ("id", "tenant", "state", "created", "expires", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContext:
    """What the process gives: its environment, its two streams, the time."""

    environment: Mapping[str, str]
    out: TextIO
    error: TextIO
    now: Callable[[], datetime]


@final
class _CannotError(Exception):
    """It could not be done. The message is one line, and no key is in it."""


def run(words: Sequence[str], desk: CommandContext) -> int:
    """Do what the words say; the exit status."""
    try:
        said = _parser().parse_args(words)
        path = _path(said.api_keys_file, desk.environment)
        said.do(said, path, desk)
    except _UsageError as exc:
        return _complain(desk, str(exc), USAGE)
    except _CannotError as exc:
        return _complain(desk, str(exc), FAILED)
    except OSError as exc:
        return _complain(desk, f"cannot use the file of keys: {exc.strerror}", FAILED)
    return DONE


def _create(said: argparse.Namespace, path: Path, desk: CommandContext) -> None:
    now = desk.now()
    with one_writer(path):
        table = _read(path) if path.exists() else KeyTable.new()
        id_bytes = secrets.token_bytes(ID_BYTES)
        while id_bytes.hex() in table.keys:
            id_bytes = secrets.token_bytes(ID_BYTES)
        text = format_key(id_bytes, secrets.token_bytes(SECRET_BYTES))
        line = KeyLine(
            id=id_bytes.hex(),
            tenant=said.tenant,
            label=said.label,
            created=_iso(now),
            expires=_iso(_expiry(said.expires, now)) if said.expires else "",
            digest=table.digest(text).hex(),
        )
        write_keys(path, table.with_key(line))
    if said.json:
        print(json.dumps({"key": text, **_shown(line, now)}), file=desk.out)
        return
    print(text, file=desk.out)
    until = f", until {line.expires}" if line.expires else ""
    print(f"Key {line.id} of {line.tenant}{until}. It is not shown again.", file=desk.error)


def _list(said: argparse.Namespace, path: Path, desk: CommandContext) -> None:
    now = desk.now()
    lines = [line for line in _read(path).keys.values() if said.tenant in {None, line.tenant}]
    rows = [_shown(line, now) for line in lines]
    if said.json:
        print(json.dumps(rows, indent=2), file=desk.out)
        return
    cells = [[name.upper() for name in _COLUMNS], *([row[name] for name in _COLUMNS] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(_COLUMNS))]
    for row in cells:
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(text.rstrip(), file=desk.out)


def _revoke(said: argparse.Namespace, path: Path, desk: CommandContext) -> None:
    with one_writer(path):
        table = _read(path)
        line = table.keys.get(said.id)
        if line is None:
            raise _CannotError(f"there is no key {said.id} in {path}")
        if line.revoked:
            print(f"Key {line.id} of {line.tenant} was revoked at {line.revoked} already.", file=desk.error)
            return
        write_keys(path, table.with_key(replace(line, revoked=_iso(desk.now()))))
    print(f"Key {line.id} of {line.tenant} is revoked.", file=desk.error)


def _shown(line: KeyLine, now: datetime) -> dict[str, str]:
    """What may be seen of a key: nothing of its secret, not even its hash."""
    seen = asdict(line)
    del seen["digest"]
    return {**seen, "state": _state(line, now)}


def _state(line: KeyLine, now: datetime) -> str:
    if line.revoked:
        return "revoked"
    return "expired" if line.expires and seconds_of(line.expires) <= now.timestamp() else "valid"


def _read(path: Path) -> KeyTable:
    try:
        return read_keys(path)
    except FileNotFoundError:
        raise _CannotError(f"there is no file {path}: `keys create` makes it") from None
    except OSError as exc:
        raise _CannotError(f"cannot read {path}: {exc.strerror}") from None
    except ValueError as exc:
        raise _CannotError(f"{path} is no file of keys: {exc}") from None


@final
class _UsageError(Exception):
    """The words are wrong."""


@final
class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; {self.prog} --help says what it takes")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="togetherchat-server keys",
        description="The keys that callers of this service are known by.",
        epilog=f"{VARIABLE} names the file where --api-keys-file does not. A running service follows the file "
        "within a second.",
    )
    commands = parser.add_subparsers(required=True, metavar="create|list|revoke")
    create = commands.add_parser("create", help="make a key and show it, once, on standard output")
    create.add_argument("--tenant", required=True, type=_tenant, help="whose key it is")
    create.add_argument("--label", default="", type=_label, help="what it is for, in your words")
    create.add_argument("--expires", metavar="WHEN", help="90d, 12h, or a date such as 2030-12-31")
    create.set_defaults(do=_create)
    shown = commands.add_parser("list", help="show the keys, never their secrets")
    shown.add_argument("--tenant", help="of this tenant alone")
    shown.set_defaults(do=_list)
    for command in (create, shown):
        command.add_argument("--json", action="store_true", help="as JSON")
    revoke = commands.add_parser("revoke", help="end a key; its line stays in the file")
    revoke.add_argument("id", type=_id, help="the twelve digits after tc_, as `list` shows them")
    revoke.set_defaults(do=_revoke)
    for command in (create, shown, revoke):
        command.add_argument("--api-keys-file", metavar="FILE", help="the file of keys")
    return parser


def _path(flag: str | None, environment: Mapping[str, str]) -> Path:
    text = flag or environment.get(VARIABLE, "")
    if not text:
        raise _UsageError(f"which file? Say --api-keys-file FILE, or set {VARIABLE}")
    return Path(text)


def _tenant(text: str) -> str:
    if not is_tenant_name(text):
        raise argparse.ArgumentTypeError(TENANT_RULE)
    return text


def _label(text: str) -> str:
    if len(text) > LABEL_CHARACTERS_MAX or not text.isprintable():
        raise argparse.ArgumentTypeError(f"is one line of at most {LABEL_CHARACTERS_MAX} characters")
    return text


def _id(text: str) -> str:
    found = _ID.fullmatch(text)
    if found is None:
        # Not repeated: it may be half a key.
        raise argparse.ArgumentTypeError("is the twelve hexadecimal digits after tc_")
    return found[1]


def _expiry(text: str, now: datetime) -> datetime:
    span = _SPAN.fullmatch(text)
    try:
        when = now + timedelta(**{_UNITS[span[2]]: int(span[1])}) if span else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise _UsageError("--expires must be like 90d, 12h or 2030-12-31") from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    if when <= now:
        raise _UsageError(f"--expires {text} is in the past")
    return when


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _complain(desk: CommandContext, text: str, status: int) -> int:
    print(f"togetherchat-server keys: {text}", file=desk.error)
    return status
