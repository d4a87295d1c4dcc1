"""Output of the command. Everything that the command prints goes through this module.

Owns the difference between a terminal and a pipe. Only a terminal gets colour, progress and tables.
A model's text may contain escape sequences that move the cursor, set the title or fake a prompt. On a
terminal such characters are replaced by visible ones. A pipe gets the model's text unchanged.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Final, TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_HIDDEN = [0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_VISIBLE: Final = str.maketrans(_CONTROL_PICTURES | dict.fromkeys(_HIDDEN, "\N{REPLACEMENT CHARACTER}"))


def visible(text: str) -> str:
    """`text` with visible characters in place of terminal control characters."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def one_line(text: str) -> str:
    """`text` on one line, with visible characters in place of control characters."""
    return visible(" ".join(text.split()))


def _aligned(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    columns = zip(cells, widths, right, strict=True)
    return "  ".join(
        cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in columns
    ).rstrip()


class Terminal:
    """Standard output for completions, standard error for everything else."""

    def __init__(self, out: TextIO, err: TextIO, *, color: bool) -> None:
        for stream in (out, err):
            if isinstance(stream, TextIOWrapper):
                # Printing must not fail because the locale's encoding lacks a character.
                stream.reconfigure(errors="replace")
        self._out = out
        self.interactive = out.isatty()
        self._console = Console(file=out, highlight=False, no_color=None if color else True)
        self._notes = Console(file=err, highlight=False, soft_wrap=True, no_color=None if color else True)

    def write(self, text: str) -> None:
        """Write text of a completion, and flush it."""
        self._out.write(visible(text) if self.interactive else text)
        self._out.flush()

    def line(self, text: str = "") -> None:
        """Write a line of output."""
        self.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Print a dim line on standard error; on a terminal only."""
        if self._notes.is_terminal:
            self._notes.print(Text(one_line(text), style="dim"))

    def write_reasoning(self, text: str) -> None:
        """Write a part of the model's reasoning to standard error, dim."""
        shown = visible(text) if self._notes.is_terminal else text
        self._notes.print(Text(shown, style="dim"), end="")

    def warn(self, text: str) -> None:
        """Print one line on standard error, with the command's name in front."""
        self._notes.print(Text.assemble(("togetherchat: ", "bold red"), one_line(text)))

    def error_json(self, text: str) -> None:
        """Print one line of JSON on standard error."""
        self._notes.print(Text(text))

    @property
    def columns(self) -> int:
        """Width of the terminal window, in characters."""
        return self._console.width

    def tab_separated(self, row: Sequence[str]) -> None:
        """Write one row for a pipe, with tabs between the columns."""
        self.line("\t".join(one_line(cell) for cell in row))

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: frozenset[str]
    ) -> None:
        """Write a table with a heading row, for a terminal."""
        cells = [[one_line(cell) for cell in row] for row in rows]
        # rich's own table cuts words to fit the window, but an id must stay whole to be copied.
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        right = [heading in numbers for heading in headings]
        self._console.print(Text(_aligned(headings, widths, right), style="bold"), soft_wrap=True)
        for row in cells:
            self.line(_aligned(row, widths, right))

    @contextmanager
    def progress(self, label: str) -> Generator["ProgressIndicator", None, None]:
        """Show a progress indicator with `label`; on a terminal only."""
        status = self._notes.status(Text(label, style="dim")) if self._notes.is_terminal else None
        progress = ProgressIndicator(status)
        try:
            yield progress
        finally:
            progress.stop()


class ProgressIndicator:
    """An animated line on standard error, until the first output arrives."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        if status is not None:
            status.start()

    def label(self, text: str) -> None:
        """Change the text of the indicator."""
        if self._status is not None:
            self._status.update(Text(text, style="dim"))

    def stop(self) -> None:
        """Remove the indicator. Further calls do nothing."""
        if self._status is not None:
            self._status.stop()
            self._status = None
