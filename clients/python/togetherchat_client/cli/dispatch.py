"""Runs a subcommand and returns its exit code, also for errors and interrupts."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from togetherchat_client import Client, TogetherChatError
from togetherchat_client.cli import chat, complete, health, models, usage
from togetherchat_client.cli.arguments import Arguments, UsageError, parse
from togetherchat_client.cli.client_factory import open_client
from togetherchat_client.cli.error_report import report_error
from togetherchat_client.cli.exit_codes import ExitCode, exit_code_of
from togetherchat_client.cli.interrupts import repeated_interrupts
from togetherchat_client.cli.terminal import Terminal

SUBCOMMANDS: Mapping[str, Callable[[Client, Arguments, Terminal], ExitCode]] = {
    "chat": chat.run,
    "complete": complete.run,
    "health": health.run,
    "model": models.run_one,
    "models": models.run,
    "quotas": usage.run_quotas,
    "usage": usage.run,
}


def dispatch(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command. argparse ends the process with 2 when the command line is invalid."""
    arguments = parse(argv, environ)
    terminal = Terminal(sys.stdout, sys.stderr, color=arguments.color)
    try:
        with repeated_interrupts(), open_client(arguments, environ) as client:
            exit_code = SUBCOMMANDS[arguments.subcommand](client, arguments, terminal)
        sys.stdout.flush()
    except UsageError as exc:
        terminal.warn(str(exc))
        exit_code = ExitCode.USAGE
    except TogetherChatError as exc:
        report_error(exc, terminal, target=arguments.target, as_json=arguments.json)
        exit_code = exit_code_of(exc)
    except KeyboardInterrupt:
        exit_code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        _discard(sys.stdout)
        exit_code = ExitCode.BROKEN_PIPE
    return exit_code


def _discard(stream: TextIO) -> None:
    """Redirect `stream` to the null device: Python would report the broken pipe again at its exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
