"""The arguments of `togetherchat-server keys`: subcommands, flags, and the variables that replace flags."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn, final

from togetherchat_server.cli.key_audit import AUDIT_LOG_VARIABLE
from togetherchat_server.config import SettingsError, read_settings
from togetherchat_server.domain.identity import KEY_SCOPES, SCOPES
from togetherchat_server.tenants.expiry_watch import DAY_S, WARN_BEFORE_S

FILE_VARIABLE: Final = "TOGETHERCHAT_API_KEYS_FILE"
MAX_AGE_VARIABLE: Final = "TOGETHERCHAT_MAX_KEY_AGE_S"
MAX_AGE_FLAG: Final = "--max-key-age-s"
DEFAULT_SCOPES: Final = ", ".join(name for name, scope in SCOPES.items() if scope in KEY_SCOPES)
ID_HELP: Final = "id of the key: the 12 hexadecimal digits after tc_"

_DURATION: Final = re.compile(r"([1-9][0-9]{0,4})([dh])")
_UNITS: Final = {"d": "days", "h": "hours"}
_ID: Final = re.compile(r"(?:tc_)?([0-9a-f]{12})(?:_.*)?")
_SECRET: Final = re.compile(r"(tc_[0-9a-f]{12})_\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """The settings of the service that the command shares."""

    path: Path
    max_age_s: float | None
    """The longest life of a key; None: for ever, or not used by the subcommand."""


@final
class KeyArgumentError(Exception):
    """The arguments are invalid. The message is one line and contains no key."""


@final
class _KeysParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse repeats arguments, and one of them may be a key.
        safe = _SECRET.sub(r"\1", message)
        raise KeyArgumentError(f"{safe}; {self.prog} --help lists the arguments")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; `command` is the subcommand. Raises KeyArgumentError."""
    return _parser().parse_args(arguments)


def read_key_settings(options: argparse.Namespace, environment: Mapping[str, str]) -> KeySettings:
    """Read the settings that the subcommand uses: a flag wins over its variable. Raises KeyArgumentError."""
    flags = vars(options)
    used = [name for name in ("api_keys_file", "max_key_age_s") if name in flags]
    try:
        settings = read_settings(used, flags, environment)
    except SettingsError as exc:
        raise KeyArgumentError(str(exc)) from None
    if settings.api_keys_file is None:
        raise KeyArgumentError(f"no API keys file is named: pass --api-keys-file FILE or set {FILE_VARIABLE}")
    return KeySettings(path=Path(settings.api_keys_file), max_age_s=settings.max_key_age_s)


def expiry(text: str | None, *, now: datetime, max_age_s: float | None) -> datetime | None:
    """Return the expiry of a new key: the requested one, or the latest that is allowed; None: never.

    Raises:
        KeyArgumentError: the text is not a time, or the time is in the past or later than allowed.
    """
    latest = None if max_age_s is None else now + timedelta(seconds=max_age_s)
    if text is None:
        return latest
    when = _time(text, now)
    if when <= now:
        raise KeyArgumentError(f"--expires {text} is in the past; it must be in the future")
    if latest is not None and when > latest:
        raise KeyArgumentError(
            f"--expires {text} is later than {MAX_AGE_FLAG} ({MAX_AGE_VARIABLE}) allows; "
            f"it must be at most {latest.isoformat(timespec='seconds')}"
        )
    return when


def _parser() -> argparse.ArgumentParser:
    parser = _KeysParser(
        prog="togetherchat-server keys",
        description="Create, list, show and revoke the API keys of this service's callers.",
        epilog=f"Without --api-keys-file, {FILE_VARIABLE} names the file. A running service reloads the "
        "file within a second. Exit status: 0 done, 1 failed, 2 invalid arguments.",
    )
    commands = parser.add_subparsers(required=True, metavar="create|list|show|revoke", dest="command")
    create = commands.add_parser("create", help="create a key and print it, once, on standard output")
    _add_create_arguments(create)
    listed = commands.add_parser("list", help="list the keys, without their secrets")
    listed.add_argument("--tenant", metavar="NAME", help="list the keys of this tenant only")
    listed.add_argument(
        "--expiring",
        action="store_true",
        help=f"list only the keys that expire within {WARN_BEFORE_S / DAY_S:.0f} days",
    )
    show = commands.add_parser("show", help="show all about one key, without its secret")
    show.add_argument("id", type=_id, metavar="ID", help=ID_HELP)
    revoke = commands.add_parser("revoke", help="revoke a key, or all of a tenant; they stay in the file")
    chosen = revoke.add_mutually_exclusive_group(required=True)
    chosen.add_argument("id", type=_id, nargs="?", metavar="ID", help=ID_HELP)
    chosen.add_argument("--tenant", metavar="NAME", help="revoke all keys of this tenant")
    for command in (create, listed, show):
        command.add_argument(
            MAX_AGE_FLAG,
            metavar="S",
            help="the service's setting: seconds after its creation at which a key is rejected; off: never "
            f"(default: {MAX_AGE_VARIABLE})",
        )
    for command in (create, listed, show, revoke):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--api-keys-file", metavar="FILE", help="API keys file")
    for command in (create, revoke):
        command.add_argument(
            "--audit-log",
            metavar="FILE|stderr",
            help=f"audit log to which the change is written (default: {AUDIT_LOG_VARIABLE})",
        )
    return parser


def _add_create_arguments(create: argparse.ArgumentParser) -> None:
    create.add_argument("--tenant", metavar="NAME", required=True, help="tenant that the key belongs to")
    create.add_argument("--label", default="", metavar="TEXT", help="purpose of the key, free text")
    create.add_argument(
        "--expires",
        metavar="WHEN",
        help=f"expiry: 90d, 12h, or a date such as 2030-12-31 (default: never, or after {MAX_AGE_FLAG})",
    )
    create.add_argument(
        "--scope",
        metavar="NAME",
        action="extend",
        type=_comma_separated,
        default=[],
        help=f"what the key may be used for: {', '.join(SCOPES)}; repeatable, or separated by commas "
        f"(default: {DEFAULT_SCOPES})",
    )
    create.add_argument(
        "--model",
        metavar="PATTERN",
        action="append",
        default=[],
        help="model that the key may use, beside the limits of its tenant: an id, an alias, or a pattern "
        "with *; repeatable (default: any)",
    )
    create.add_argument(
        "--network",
        metavar="NETWORK",
        action="append",
        default=[],
        help="address or network from which the key may be used, such as 10.0.0.0/8; repeatable "
        "(default: any)",
    )


def _comma_separated(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _id(text: str) -> str:
    match = _ID.fullmatch(text)
    if match is None:
        # The text is not repeated: it may be part of a key.
        raise argparse.ArgumentTypeError("must be the 12 hexadecimal digits after tc_")
    return match[1]


def _time(text: str, now: datetime) -> datetime:
    duration = _DURATION.fullmatch(text)
    try:
        when = (
            now + timedelta(**{_UNITS[duration[2]]: int(duration[1])})
            if duration
            else datetime.fromisoformat(text)
        )
    except (ValueError, OverflowError):
        raise KeyArgumentError("--expires must be like 90d, 12h or 2030-12-31") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
