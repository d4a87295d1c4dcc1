"""`togetherchat-server usage migrate`: creates or migrates the tables of the usage ledger.

SQLite needs no command: the service migrates its file at the start. Several replicas share a PostgreSQL
server, so an operator decides when its tables change. Exit status 0: done; 1: failed; 2: invalid arguments.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, TextIO, final

from togetherchat_server.config import SettingsError, read_settings
from togetherchat_server.usage.settings_check import check_usage_packages

DONE, FAILED, INVALID = 0, 1, 2
_SETTINGS: Final = ("usage_database",)


@final
class _UsageArgumentError(Exception):
    """The arguments are invalid."""


@final
class _UsageParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageArgumentError(f"{message}; `togetherchat-server usage --help` shows the command")


def run_usage(arguments: Sequence[str], environment: Mapping[str, str], *, out: TextIO, error: TextIO) -> int:
    """Run the subcommand. Return the exit status."""
    try:
        flags = vars(_parser().parse_args(arguments))
        settings = read_settings(_SETTINGS, flags, environment)
        _migrate(settings.usage_database)
    except _UsageArgumentError as exc:
        print(f"togetherchat-server: {exc}", file=error)
        return INVALID
    except SettingsError as exc:
        print(f"togetherchat-server: {exc}", file=error)
        return FAILED
    print("The tables of the usage ledger are those of this version.", file=out)
    return DONE


def _migrate(text: str | None) -> None:
    if text is None:
        raise _UsageArgumentError("--usage-database (TOGETHERCHAT_USAGE_DATABASE) is not set")
    check_usage_packages()
    # Imported on use: an optional dependency.
    from togetherchat_server.usage.database import UsageDatabase  # noqa: PLC0415

    database = UsageDatabase.parse(text)
    if database.file is None:
        database.migrate()
    else:
        database.prepare()


def _parser() -> argparse.ArgumentParser:
    parser = _UsageParser(prog="togetherchat-server usage", description="Manages the usage ledger.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    migrate = commands.add_parser("migrate", help="create the tables, or migrate them to this version")
    migrate.add_argument("--usage-database", metavar="URL", help="as of the service")
    return parser
