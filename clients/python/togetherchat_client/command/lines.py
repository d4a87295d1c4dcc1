"""Reads what a person types, line by line, with editing and a history on a terminal.

The history lives in memory; into a file it goes only when one was asked for, and then for
its owner's eyes alone.
"""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from togetherchat_client.command.arguments import UsageError
from togetherchat_client.command.terminal import Terminal

PROMPT: Final = "> "
PROMPT_ON: Final = "… "
HISTORY_LINES_MAX: Final = 1000


class Lines:
    """The lines of standard input. Use it in a `with`, which keeps the history file."""

    def __init__(self, terminal: Terminal, *, history: Path | None) -> None:
        self.interactive = sys.stdin.isatty() and terminal.interactive
        self._history = history

    def __enter__(self) -> Self:
        if self.interactive:
            self._edit()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.interactive and self._history is not None:
            self._keep(self._history)

    def read(self) -> str | None:
        """The next line, with those that it goes on in; None at the end."""
        text = self._line(PROMPT)
        while text is not None and text.endswith("\\"):
            more = self._line(PROMPT_ON)
            text = text[:-1] + "\n" + (more or "")
        return text

    def _line(self, prompt: str) -> str | None:
        try:
            text = input(prompt if self.interactive else "")
        except EOFError:
            return None
        # Bytes that are no UTF-8 arrive as lone surrogates, which no message can carry.
        return text.encode(errors="replace").decode()

    def _edit(self) -> None:
        import readline  # noqa: PLC0415  it takes over the terminal's input, and Windows has none

        # Pasted lines come as one line with breaks in it, not as many questions.
        readline.parse_and_bind("set enable-bracketed-paste on")
        readline.set_history_length(HISTORY_LINES_MAX)
        if self._history is not None and self._history.exists():
            try:
                readline.read_history_file(self._history)
            except OSError as exc:
                raise UsageError(f"cannot read {self._history}: {exc.strerror}") from exc

    def _keep(self, path: Path) -> None:
        import readline  # noqa: PLC0415  as above

        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.write_history_file(path)
