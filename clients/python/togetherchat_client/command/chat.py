"""`togetherchat chat`: a conversation.

Owns the loop and the words that start with a slash; `session.py` owns the conversation.
On a terminal a failure is said and the talk goes on. From a pipe each line is a question,
only answers are printed, and the first failure ends it with its exit code.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from togetherchat_client import Client, TogetherChatError
from togetherchat_client.command.arguments import Arguments
from togetherchat_client.command.failures import Exit, report
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
    session = Session(client, arguments, terminal)
    with Lines(terminal, history=arguments.history) as lines:
        if lines.interactive:
            terminal.note(f"{session.model} at {arguments.target}. /help lists what there is; Ctrl-D leaves.")
        while _turn(lines, session, arguments, terminal):
            pass
    return Exit.DONE


def _turn(lines: Lines, session: Session, arguments: Arguments, terminal: Terminal) -> bool:
    """One line and what it asks for; False when it was the last. Ctrl-C takes a terminal to the next."""
    try:
        line = lines.read()
        if line is None or line.strip() == "/exit":
            return False
        if line.startswith("/"):
            _obey(line, session, terminal)
        elif line.strip():
            _ask(line, session, arguments, terminal, interactive=lines.interactive)
    except KeyboardInterrupt:
        if not lines.interactive:
            raise
        terminal.line()
    return True


def _ask(line: str, session: Session, arguments: Arguments, terminal: Terminal, *, interactive: bool) -> None:
    try:
        session.ask(line)
    except TogetherChatError as exc:
        if not interactive:
            raise
        report(exc, terminal, target=arguments.target, as_json=arguments.json)
    except KeyboardInterrupt:
        if not interactive:
            raise
        terminal.note("stopped; what came is kept")


def _obey(line: str, session: Session, terminal: Terminal) -> None:
    word, _, rest = line.partition(" ")
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
