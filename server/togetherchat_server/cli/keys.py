"""`togetherchat-server keys create|list|revoke`: edits the API keys file.

A key is printed once, when it is created, on standard output only. Messages go to standard error.
With an audit log, the command writes who creates or revokes a key there.
Exit status 0: done; 1: failed; 2: invalid arguments.
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

from togetherchat_server.cli.key_audit import AUDIT_LOG_VARIABLE, open_key_audit
from togetherchat_server.config import SettingsError
from togetherchat_server.domain.audit import AuditEvent
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

_DURATION: Final = re.compile(r"([1-9][0-9]{0,4})([dh])")
_UNITS: Final = {"d": "days", "h": "hours"}
_ID: Final = re.compile(r"(?:tc_)?([0-9a-f]{12})(?:_.*)?")
_COLUMNS: Final = ("id", "tenant", "state", "created", "expires", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContext:
    """The process's environment variables, its two output streams, and the time."""

    environment: Mapping[str, str]
    out: TextIO
    error: TextIO
    now: Callable[[], datetime]


@final
class _CommandError(Exception):
    """The command failed. The message is one line and contains no key."""


def run_keys(arguments: Sequence[str], context: CommandContext) -> int:
    """Run the subcommand. Return the exit status."""
    try:
        options = _parser().parse_args(arguments)
        path = _path(options.api_keys_file, context.environment)
        options.run(options, path, context)
    except _UsageError as exc:
        return _fail(context, str(exc), USAGE)
    except (_CommandError, SettingsError) as exc:
        return _fail(context, str(exc), FAILED)
    except OSError as exc:
        return _fail(context, f"cannot read or write the API keys file: {exc.strerror}", FAILED)
    return DONE


def _create(options: argparse.Namespace, path: Path, context: CommandContext) -> None:
    now = context.now()
    with open_key_audit(options.audit_log, context.environment) as audit, one_writer(path):
        table = _read(path) if path.exists() else KeyTable.new()
        id_bytes = secrets.token_bytes(ID_BYTES)
        while id_bytes.hex() in table.keys:
            id_bytes = secrets.token_bytes(ID_BYTES)
        text = format_key(id_bytes, secrets.token_bytes(SECRET_BYTES))
        line = KeyLine(
            id=id_bytes.hex(),
            tenant=options.tenant,
            label=options.label,
            created=_iso(now),
            expires=_iso(_expiry(options.expires, now)) if options.expires else "",
            digest=table.digest(text).hex(),
        )
        with audit.change(AuditEvent.KEY_CREATED, line, now=now):
            write_keys(path, table.with_key(line))
    if options.json:
        print(json.dumps({"key": text, **_shown(line, now)}), file=context.out)
        return
    print(text, file=context.out)
    expiry = f", expires {line.expires}" if line.expires else ""
    print(f"Created key {line.id} of {line.tenant}{expiry}. The key is not shown again.", file=context.error)


def _list(options: argparse.Namespace, path: Path, context: CommandContext) -> None:
    now = context.now()
    lines = [line for line in _read(path).keys.values() if options.tenant in {None, line.tenant}]
    rows = [_shown(line, now) for line in lines]
    if options.json:
        print(json.dumps(rows, indent=2), file=context.out)
        return
    cells = [[name.upper() for name in _COLUMNS], *([row[name] for name in _COLUMNS] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    for row in cells:
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(text.rstrip(), file=context.out)


def _revoke(options: argparse.Namespace, path: Path, context: CommandContext) -> None:
    now = context.now()
    with open_key_audit(options.audit_log, context.environment) as audit, one_writer(path):
        table = _read(path)
        line = table.keys.get(options.id)
        if line is None:
            raise _CommandError(f"{path} has no key {options.id}; `keys list` lists the keys")
        if line.revoked:
            print(
                f"Key {line.id} of {line.tenant} was already revoked at {line.revoked}.", file=context.error
            )
            return
        with audit.change(AuditEvent.KEY_REVOKED, line, now=now):
            write_keys(path, table.with_key(replace(line, revoked=_iso(now))))
    print(f"Revoked key {line.id} of {line.tenant}.", file=context.error)


def _shown(line: KeyLine, now: datetime) -> dict[str, str]:
    """Return what may be shown of a key: not its secret, nor the hash."""
    fields = asdict(line)
    del fields["digest"]
    return {**fields, "state": _state(line, now)}


def _state(line: KeyLine, now: datetime) -> str:
    if line.revoked:
        return "revoked"
    return "expired" if line.expires and seconds_of(line.expires) <= now.timestamp() else "valid"


def _read(path: Path) -> KeyTable:
    try:
        return read_keys(path)
    except FileNotFoundError:
        raise _CommandError(f"{path} does not exist; `keys create` creates it") from None
    except OSError as exc:
        raise _CommandError(f"cannot read {path}: {exc.strerror}") from None
    except ValueError as exc:
        raise _CommandError(f"{path} is not an API keys file: {exc}") from None


@final
class _UsageError(Exception):
    """The arguments are invalid."""


@final
class _KeysParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; {self.prog} --help lists the arguments")


def _parser() -> argparse.ArgumentParser:
    parser = _KeysParser(
        prog="togetherchat-server keys",
        description="Create, list and revoke the API keys of this service's callers.",
        epilog=f"Without --api-keys-file, {VARIABLE} names the file. A running service reloads the "
        "file within a second.",
    )
    commands = parser.add_subparsers(required=True, metavar="create|list|revoke")
    create = commands.add_parser("create", help="create a key and print it, once, on standard output")
    create.add_argument("--tenant", required=True, type=_tenant, help="tenant that the key belongs to")
    create.add_argument("--label", default="", type=_label, help="purpose of the key, free text")
    create.add_argument("--expires", metavar="WHEN", help="expiry: 90d, 12h, or a date such as 2030-12-31")
    create.set_defaults(run=_create)
    shown = commands.add_parser("list", help="list the keys, without their secrets")
    shown.add_argument("--tenant", help="list the keys of this tenant only")
    shown.set_defaults(run=_list)
    for command in (create, shown):
        command.add_argument("--json", action="store_true", help="print JSON")
    revoke = commands.add_parser("revoke", help="revoke a key; its line stays in the file")
    revoke.add_argument("id", type=_id, help="id of the key: the 12 hexadecimal digits after tc_")
    revoke.set_defaults(run=_revoke)
    for command in (create, shown, revoke):
        command.add_argument("--api-keys-file", metavar="FILE", help="API keys file")
    for command in (create, revoke):
        command.add_argument(
            "--audit-log",
            metavar="FILE|stderr",
            help=f"audit log to which the change is written (default: {AUDIT_LOG_VARIABLE})",
        )
    return parser


def _path(flag: str | None, environment: Mapping[str, str]) -> Path:
    text = flag or environment.get(VARIABLE, "")
    if not text:
        raise _UsageError(f"no API keys file is named: pass --api-keys-file FILE or set {VARIABLE}")
    return Path(text)


def _tenant(text: str) -> str:
    if not is_tenant_name(text):
        raise argparse.ArgumentTypeError(TENANT_RULE)
    return text


def _label(text: str) -> str:
    if len(text) > LABEL_CHARACTERS_MAX or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must be one line of at most {LABEL_CHARACTERS_MAX} characters")
    return text


def _id(text: str) -> str:
    match = _ID.fullmatch(text)
    if match is None:
        # The text is not repeated: it may be part of a key.
        raise argparse.ArgumentTypeError("must be the 12 hexadecimal digits after tc_")
    return match[1]


def _expiry(text: str, now: datetime) -> datetime:
    duration = _DURATION.fullmatch(text)
    try:
        when = (
            now + timedelta(**{_UNITS[duration[2]]: int(duration[1])})
            if duration
            else datetime.fromisoformat(text)
        )
    except (ValueError, OverflowError):
        raise _UsageError("--expires must be like 90d, 12h or 2030-12-31") from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    if when <= now:
        raise _UsageError(f"--expires {text} is in the past; it must be in the future")
    return when


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _fail(context: CommandContext, text: str, status: int) -> int:
    print(f"togetherchat-server keys: {text}", file=context.error)
    return status
