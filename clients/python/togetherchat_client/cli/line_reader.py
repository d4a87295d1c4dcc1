"""Reads lines from standard input, with editing and a history on a terminal.

The history is kept in memory. With `--history` it is also written to a file that only its owner
can read.
"""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from togetherchat_client.cli.arguments import UsageError
from togetherchat_client.cli.terminal import Terminal

PROMPT: Final = "> "
CONTINUATION_PROMPT: Final = "… "
HISTORY_LINES_MAX: Final = 1000


def read_input(prompt: str) -> str:
    """Call `input`, and do nothing else: in a chat Ctrl-C raises KeyboardInterrupt in this function only."""
    try:
        return input(prompt)
    except SystemError as exc:
        # CPython checks for signals again while the KeyboardInterrupt of the first signal is set. The handler
        # of a second one cannot run then, and SystemError replaces the KeyboardInterrupt.
        if isinstance(exc.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from exc
        raise


class LineReader:
    """The lines of standard input. Leaving its `with` writes the history file."""

    def __init__(self, terminal: Terminal, *, history: Path | None) -> None:
        self.interactive = sys.stdin.isatty() and terminal.interactive
        self._history = history

    def __enter__(self) -> Self:
        if self.interactive:
            self._enable_editing()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.interactive and self._history is not None:
            self._write_history(self._history)

    def read(self) -> str | None:
        """Return the next line, joined with its continuation lines; None at the end of the input."""
        text = self._line(PROMPT)
        while text is not None and text.endswith("\\"):
            more = self._line(CONTINUATION_PROMPT)
            text = text[:-1] + "\n" + (more or "")
        return text

    def _line(self, prompt: str) -> str | None:
        try:
            text = read_input(prompt if self.interactive else "")
        except EOFError:
            return None
        # Bytes that are not UTF-8 become lone surrogates, which a protobuf string cannot hold.
        return text.encode(errors="replace").decode()

    def _enable_editing(self) -> None:
        import readline  # noqa: PLC0415  takes over the terminal's input; missing on Windows

        # A paste of many lines is then one line with breaks in it, not many messages.
        readline.parse_and_bind("set enable-bracketed-paste on")
        readline.set_history_length(HISTORY_LINES_MAX)
        if self._history is not None and self._history.exists():
            try:
                readline.read_history_file(self._history)
            except OSError as exc:
                raise UsageError(f"--history: cannot read {self._history}: {exc.strerror}") from exc

    def _write_history(self, path: Path) -> None:
        import readline  # noqa: PLC0415  as above

        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.write_history_file(path)
