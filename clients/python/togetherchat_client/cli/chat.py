"""`togetherchat chat`: a conversation.

Owns the input loop and the slash commands. `conversation.py` owns the messages.

On a terminal a failed call is reported and the chat continues. In a pipe each line is one user
message, only completions are printed, and the first failure ends the command with its exit code.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from togetherchat_client import CallCancelledError, Client, TogetherChatError
from togetherchat_client.cli.arguments import Arguments
from togetherchat_client.cli.conversation import Conversation
from togetherchat_client.cli.error_report import report_error
from togetherchat_client.cli.exit_codes import ExitCode
from togetherchat_client.cli.interrupts import InterruptHandler
from togetherchat_client.cli.line_reader import LineReader, read_input
from togetherchat_client.cli.terminal import Terminal

SlashCommand: TypeAlias = Callable[[Conversation, str, Terminal], None]

HELP = """\
/model [ID]     show or change the model
/system [TEXT]  show or change the system message
/clear          forget the conversation, keep the system message
/save FILE      write the conversation to a file, as JSON
/help           show this help
/exit           leave the chat, like Ctrl-D
Ctrl-C stops a completion. A line that ends in \\ continues on the next line.
A space before the / sends the line as a message."""


def run(client: Client, arguments: Arguments, terminal: Terminal) -> ExitCode:
    """Chat until Ctrl-D, /exit or the end of the input."""
    interrupts = InterruptHandler(interruptible=read_input.__code__)
    conversation = Conversation(client, arguments, terminal, interrupts)
    with LineReader(terminal, history=arguments.history) as reader:
        if reader.interactive:
            terminal.note(
                f"{conversation.model} at {arguments.target}. /help lists the commands; Ctrl-D leaves."
            )
            with interrupts:
                _chat_interactively(reader, conversation, arguments, terminal)
        else:
            while (line := _next_line(reader)) is not None:
                _handle_line(line, conversation, terminal)
    return ExitCode.DONE


def _chat_interactively(
    reader: LineReader, conversation: Conversation, arguments: Arguments, terminal: Terminal
) -> None:
    """Chat on a terminal. A failed call is reported, and Ctrl-C discards the line being typed."""
    line: str | None = ""
    while line is not None:
        try:
            line = _next_line(reader)
        except KeyboardInterrupt:
            terminal.line()
        else:
            _handle_line_or_report(line or "", conversation, arguments, terminal)


def _next_line(reader: LineReader) -> str | None:
    line = reader.read()
    return None if line is None or line.strip() == "/exit" else line


def _handle_line_or_report(
    line: str, conversation: Conversation, arguments: Arguments, terminal: Terminal
) -> None:
    try:
        _handle_line(line, conversation, terminal)
    except TogetherChatError as exc:
        if isinstance(exc, CallCancelledError) and not exc.reason:
            terminal.note("stopped; the partial completion is kept")
        else:
            report_error(exc, terminal, target=arguments.target, as_json=arguments.json)


def _handle_line(line: str, conversation: Conversation, terminal: Terminal) -> None:
    """Run a slash command, or send the line as a user message."""
    if line.startswith("/"):
        _run_slash_command(line, conversation, terminal)
    elif line.strip():
        conversation.send(line)


def _run_slash_command(line: str, conversation: Conversation, terminal: Terminal) -> None:
    name, _, argument = line.strip().partition(" ")
    command = SLASH_COMMANDS.get(name)
    if command is None:
        terminal.warn(f"unknown command {name}; /help lists the commands")
    else:
        command(conversation, argument.strip(), terminal)


def _model(conversation: Conversation, model: str, terminal: Terminal) -> None:
    conversation.model = model or conversation.model
    terminal.note(conversation.model)


def _system(conversation: Conversation, text: str, terminal: Terminal) -> None:
    conversation.system = text or conversation.system
    terminal.note(conversation.system or "no system message")


def _clear(conversation: Conversation, _argument: str, terminal: Terminal) -> None:
    conversation.clear()
    terminal.note("cleared")


def _save(conversation: Conversation, path: str, terminal: Terminal) -> None:
    if not path:
        terminal.warn("/save needs a file name")
        return
    try:
        Path(path).expanduser().write_text(conversation.as_json(), encoding="utf-8")
    except OSError as exc:
        terminal.warn(f"cannot write {path}: {exc.strerror}")
    else:
        terminal.note(f"saved to {path}")


def _help(_conversation: Conversation, _argument: str, terminal: Terminal) -> None:
    terminal.line(HELP)


SLASH_COMMANDS: Mapping[str, SlashCommand] = {
    "/clear": _clear,
    "/help": _help,
    "/model": _model,
    "/save": _save,
    "/system": _system,
}
