"""Runs the chosen subcommand and turns whatever ends it into an exit code."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from togetherchat_client import Client, TogetherChatError
from togetherchat_client.command import chat, complete, health, models
from togetherchat_client.command.arguments import Arguments, UsageError, parse
from togetherchat_client.command.connection import open_client
from togetherchat_client.command.failures import Exit, exit_of, report
from togetherchat_client.command.interrupts import insistent
from togetherchat_client.command.terminal import Terminal

SUBCOMMANDS: Mapping[str, Callable[[Client, Arguments, Terminal], Exit]] = {
    "chat": chat.run,
    "complete": complete.run,
    "health": health.run,
    "models": models.run,
}


def dispatch(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command. A wrong command line ends the process in argparse, with 2."""
    arguments = parse(argv, environ)
    terminal = Terminal(sys.stdout, sys.stderr, color=arguments.color)
    try:
        with insistent(), open_client(arguments, environ) as client:
            exit_code = SUBCOMMANDS[arguments.subcommand](client, arguments, terminal)
        sys.stdout.flush()
    except UsageError as exc:
        terminal.warn(str(exc))
        exit_code = Exit.USAGE
    except TogetherChatError as exc:
        report(exc, terminal, target=arguments.target, as_json=arguments.json)
        exit_code = exit_of(exc)
    except KeyboardInterrupt:
        exit_code = Exit.INTERRUPTED
    except BrokenPipeError:
        _discard(sys.stdout)
        exit_code = Exit.BROKEN_PIPE
    return exit_code


def _discard(stream: TextIO) -> None:
    """Point `stream` nowhere, or Python complains about the pipe once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
