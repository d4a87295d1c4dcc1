"""All that the command prints goes through here.

Owns the difference between a terminal and a pipe: colour, progress and tables with lines
are for a terminal alone, and so is what is done to text there. A model's text may hold
escape sequences that would move the cursor, set the title or fake a prompt; on a terminal
they are shown, not obeyed. Into a pipe goes what the model wrote.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Final, TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_HIDDEN = [0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_VISIBLE: Final = str.maketrans(_PICTURES | dict.fromkeys(_HIDDEN, "\N{REPLACEMENT CHARACTER}"))


def visible(text: str) -> str:
    """`text` with the characters that would steer a terminal shown instead of obeyed."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def one_line(text: str) -> str:
    """`text` fit for one line."""
    return visible(" ".join(text.split()))


def _aligned(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    columns = zip(cells, widths, right, strict=True)
    return "  ".join(
        cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in columns
    ).rstrip()


class Terminal:
    """Standard output for answers, standard error for everything about them."""

    def __init__(self, out: TextIO, err: TextIO, *, color: bool) -> None:
        for stream in (out, err):
            if isinstance(stream, TextIOWrapper):
                # An answer must not fail because the locale has no letter for it.
                stream.reconfigure(errors="replace")
        self._out = out
        self.interactive = out.isatty()
        self._console = Console(file=out, highlight=False, no_color=None if color else True)
        self._notes = Console(file=err, highlight=False, soft_wrap=True, no_color=None if color else True)

    def write(self, text: str) -> None:
        """A piece of an answer, at once."""
        self._out.write(visible(text) if self.interactive else text)
        self._out.flush()

    def line(self, text: str = "") -> None:
        """A line of output."""
        self.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Something about an answer, dim; on a terminal only."""
        if self._notes.is_terminal:
            self._notes.print(Text(one_line(text), style="dim"))

    def aside(self, text: str) -> None:
        """A piece of what is not the answer (the model's thinking), dim."""
        shown = visible(text) if self._notes.is_terminal else text
        self._notes.print(Text(shown, style="dim"), end="")

    def warn(self, text: str) -> None:
        """One line that must be seen, also by who reads a log."""
        self._notes.print(Text.assemble(("togetherchat: ", "bold red"), one_line(text)))

    def error_json(self, text: str) -> None:
        """A failure as one line of JSON."""
        self._notes.print(Text(text))

    @property
    def columns(self) -> int:
        """How wide the window is."""
        return self._console.width

    def tabs(self, row: Sequence[str]) -> None:
        """A row for a pipe: tabs between the columns."""
        self.line("\t".join(one_line(cell) for cell in row))

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: frozenset[str]
    ) -> None:
        """A table with a head, for a terminal."""
        cells = [[one_line(cell) for cell in row] for row in rows]
        # Not rich's own table, which cuts words to fit the window: an id is there to be copied.
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        right = [heading in numbers for heading in headings]
        self._console.print(Text(_aligned(headings, widths, right), style="bold"), soft_wrap=True)
        for row in cells:
            self.line(_aligned(row, widths, right))

    @contextmanager
    def waiting(self, label: str) -> Generator["Waiting", None, None]:
        """Shows that something is under way; on a terminal only."""
        waiting = Waiting(self._notes.status(Text(label, style="dim")) if self._notes.is_terminal else None)
        try:
            yield waiting
        finally:
            waiting.stop()


class Waiting:
    """A moving sign on standard error, until the first word comes."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        if status is not None:
            status.start()

    def label(self, text: str) -> None:
        """Say what is being waited for."""
        if self._status is not None:
            self._status.update(Text(text, style="dim"))

    def stop(self) -> None:
        """Take the sign away. Twice is once."""
        if self._status is not None:
            self._status.stop()
            self._status = None
