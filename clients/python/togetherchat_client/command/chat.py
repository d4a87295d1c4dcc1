"""`togetherchat chat`: a conversation.

Owns the loop and the words that start with a slash; `session.py` owns the conversation.
On a terminal a failure is said and the talk goes on. From a pipe each line is a question,
only answers are printed, and the first failure ends it with its exit code.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from togetherchat_client import CallCancelledError, Client, TogetherChatError
from togetherchat_client.command.arguments import Arguments
from togetherchat_client.command.failures import Exit, report
from togetherchat_client.command.interrupts import Interrupts
from togetherchat_client.command.lines import Lines
from togetherchat_client.command.session import Session
from togetherchat_client.command.terminal import Terminal

Word: TypeAlias = Callable[[Session, str, Terminal], None]

HELP = """\
/model [ID]     show or change the model
/system [TEXT]  show or change the instructions
/clear          forget the conversation, keep the instructions
/save FILE      write the conversation as JSON
/help           this
/exit           leave (so does Ctrl-D)
Ctrl-C stops an answer. A line that ends in \\ goes on; a space before a slash sends it."""


def run(client: Client, arguments: Arguments, terminal: Terminal) -> Exit:
    """Talk until Ctrl-D, /exit or the end of the input."""
    interrupts = Interrupts()
    session = Session(client, arguments, terminal, interrupts)
    with Lines(terminal, history=arguments.history) as lines:
        if lines.interactive:
            terminal.note(f"{session.model} at {arguments.target}. /help lists what there is; Ctrl-D leaves.")
            with interrupts:
                _talk(lines, session, arguments, terminal)
        else:
            while (line := _next_line(lines)) is not None:
                _follow(line, session, terminal)
    return Exit.DONE


def _talk(lines: Lines, session: Session, arguments: Arguments, terminal: Terminal) -> None:
    """With a person: no failure ends it, and Ctrl-C takes it to the next line."""
    line: str | None = ""
    while line is not None:
        try:
            with session.interrupts.typing():
                line = _next_line(lines)
        except KeyboardInterrupt:
            terminal.line()
        else:
            _try_to_follow(line or "", session, arguments, terminal)


def _next_line(lines: Lines) -> str | None:
    line = lines.read()
    return None if line is None or line.strip() == "/exit" else line


def _try_to_follow(line: str, session: Session, arguments: Arguments, terminal: Terminal) -> None:
    try:
        _follow(line, session, terminal)
    except TogetherChatError as exc:
        if isinstance(exc, CallCancelledError) and not exc.reason:
            terminal.note("stopped; what came is kept")
        else:
            report(exc, terminal, target=arguments.target, as_json=arguments.json)


def _follow(line: str, session: Session, terminal: Terminal) -> None:
    """Do what `line` asks for."""
    if line.startswith("/"):
        _obey(line, session, terminal)
    elif line.strip():
        session.ask(line)


def _obey(line: str, session: Session, terminal: Terminal) -> None:
    word, _, rest = line.strip().partition(" ")
    obey = WORDS.get(word)
    if obey is None:
        terminal.warn(f"there is no {word}; /help lists what there is")
    else:
        obey(session, rest.strip(), terminal)


def _model(session: Session, model: str, terminal: Terminal) -> None:
    session.model = model or session.model
    terminal.note(session.model)


def _system(session: Session, text: str, terminal: Terminal) -> None:
    session.system = text or session.system
    terminal.note(session.system or "no instructions")


def _clear(session: Session, _rest: str, terminal: Terminal) -> None:
    session.clear()
    terminal.note("cleared")


def _save(session: Session, path: str, terminal: Terminal) -> None:
    if not path:
        terminal.warn("/save needs the name of a file")
        return
    try:
        Path(path).expanduser().write_text(session.as_json(), encoding="utf-8")
    except OSError as exc:
        terminal.warn(f"cannot write {path}: {exc.strerror}")
    else:
        terminal.note(f"saved to {path}")


def _help(_session: Session, _rest: str, terminal: Terminal) -> None:
    terminal.line(HELP)


WORDS: Mapping[str, Word] = {
    "/clear": _clear,
    "/help": _help,
    "/model": _model,
    "/save": _save,
    "/system": _system,
}
