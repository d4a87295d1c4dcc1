"""`togetherchat-server keys create|list|show|revoke`: edits and shows the API keys file.

A key is printed once, when it is created, on standard output only. Messages go to standard error.
With an audit log, the command writes who creates or revokes a key there.
Exit status 0: done; 1: failed; 2: invalid arguments.
"""

import argparse
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO, final

from togetherchat_server.cli.key_arguments import (
    KeyArgumentError,
    KeySettings,
    expiry,
    parse_arguments,
    read_key_settings,
)
from togetherchat_server.cli.key_audit import open_key_audit
from togetherchat_server.cli.key_output import iso, print_json, print_key, print_table, shown
from togetherchat_server.config import SettingsError
from togetherchat_server.domain.audit import AuditEvent
from togetherchat_server.tenants.key_file import (
    KeyLine,
    KeyTable,
    check_line,
    one_writer,
    read_keys,
    write_keys,
)
from togetherchat_server.tenants.key_format import ID_BYTES, SECRET_BYTES, format_key
from togetherchat_server.tenants.key_state import KeyState

DONE, FAILED, USAGE = 0, 1, 2

FLAGS: Final = {"scopes": "scope", "models": "model", "networks": "network"}
"""Members of a key whose flags have another name."""


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
        options = parse_arguments(arguments)
        settings = read_key_settings(options, context.environment)
        _COMMANDS[options.command](options, settings, context)
    except KeyArgumentError as exc:
        return _fail(context, str(exc), USAGE)
    except (_CommandError, SettingsError) as exc:
        return _fail(context, str(exc), FAILED)
    except OSError as exc:
        return _fail(context, f"cannot read or write the API keys file: {exc.strerror}", FAILED)
    return DONE


def _create(options: argparse.Namespace, settings: KeySettings, context: CommandContext) -> None:
    path, now = settings.path, context.now()
    expires = expiry(options.expires, now=now, max_age_s=settings.max_age_s)
    with open_key_audit(options.audit_log, context.environment) as audit, one_writer(path):
        table = _read(path) if path.exists() else KeyTable.new()
        text, line = _new_key(table, options, created=now, expires=expires)
        with audit.change(AuditEvent.KEY_CREATED, line, now=now):
            write_keys(path, table.with_keys([line]))
    if options.json:
        print_json({"key": text, **shown(line, now, max_age_s=settings.max_age_s)}, context.out)
        return
    print(text, file=context.out)
    ends = f", expires {line.expires}" if line.expires else ""
    print(f"Created key {line.id} of {line.tenant}{ends}. The key is not shown again.", file=context.error)


def _list(options: argparse.Namespace, settings: KeySettings, context: CommandContext) -> None:
    now = context.now()
    lines = [line for line in _read(settings.path).keys.values() if options.tenant in {None, line.tenant}]
    keys = [shown(line, now, max_age_s=settings.max_age_s) for line in lines]
    if options.expiring:
        keys = [key for key in keys if key["state"] == KeyState.EXPIRING]
    if options.json:
        print_json(keys, context.out, indent=2)
    else:
        print_table(keys, context.out)


def _show(options: argparse.Namespace, settings: KeySettings, context: CommandContext) -> None:
    line = _line(_read(settings.path), options.id, settings.path)
    key = shown(line, context.now(), max_age_s=settings.max_age_s)
    if options.json:
        print_json(key, context.out, indent=2)
    else:
        print_key(key, context.out)


def _revoke(options: argparse.Namespace, settings: KeySettings, context: CommandContext) -> None:
    path, now = settings.path, context.now()
    with open_key_audit(options.audit_log, context.environment) as audit, one_writer(path):
        table = _read(path)
        if options.tenant is None:
            lines = [_line(table, options.id, path)]
        else:
            lines = _lines_of(table, options.tenant, path)
        revoked = [replace(line, revoked=iso(now)) for line in lines if not line.revoked]
        if revoked:
            with audit.change(AuditEvent.KEY_REVOKED, *revoked, now=now):
                write_keys(path, table.with_keys(revoked))
    if options.json:
        print_json([line.id for line in revoked], context.out)
        return
    for line in lines:
        already = f"Key {line.id} of {line.tenant} was already revoked at {line.revoked}."
        print(already if line.revoked else f"Revoked key {line.id} of {line.tenant}.", file=context.error)


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace, KeySettings, CommandContext], None]]] = {
    "create": _create,
    "list": _list,
    "show": _show,
    "revoke": _revoke,
}


def _new_key(
    table: KeyTable, options: argparse.Namespace, *, created: datetime, expires: datetime | None
) -> tuple[str, KeyLine]:
    """Return a new key and its line. Raises KeyArgumentError if the file could not have the line."""
    id_bytes = secrets.token_bytes(ID_BYTES)
    while id_bytes.hex() in table.keys:
        id_bytes = secrets.token_bytes(ID_BYTES)
    text = format_key(id_bytes, secrets.token_bytes(SECRET_BYTES))
    line = KeyLine(
        id=id_bytes.hex(),
        tenant=options.tenant,
        label=options.label,
        created=iso(created),
        expires="" if expires is None else iso(expires),
        scopes=tuple(dict.fromkeys(options.scope)),
        models=tuple(dict.fromkeys(options.model)),
        networks=tuple(dict.fromkeys(options.network)),
        digest=table.digest(text).hex(),
    )
    try:
        check_line(line)
    except ValueError as exc:
        member, _, rule = str(exc).partition(": ")
        raise KeyArgumentError(f"--{FLAGS.get(member, member)} {rule}") from None
    return text, line


def _line(table: KeyTable, key_id: str, path: Path) -> KeyLine:
    line = table.keys.get(key_id)
    if line is None:
        raise _CommandError(f"{path} has no key {key_id}; `keys list` lists the keys")
    return line


def _lines_of(table: KeyTable, tenant: str, path: Path) -> Sequence[KeyLine]:
    lines = [line for line in table.keys.values() if line.tenant == tenant]
    if not lines:
        raise _CommandError(f"{path} has no key of tenant {tenant!r}; `keys list` lists the keys")
    return lines


def _read(path: Path) -> KeyTable:
    try:
        return read_keys(path)
    except FileNotFoundError:
        raise _CommandError(f"{path} does not exist; `keys create` creates it") from None
    except OSError as exc:
        raise _CommandError(f"cannot read {path}: {exc.strerror}") from None
    except ValueError as exc:
        raise _CommandError(f"{path} is not an API keys file: {exc}") from None


def _fail(context: CommandContext, text: str, status: int) -> int:
    print(f"togetherchat-server keys: {text}", file=context.error)
    return status
