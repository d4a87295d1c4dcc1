"""Formats and writes log entries on a thread of its own.

A pipe that is not read blocks its writer: a line written from the event loop would stop the
service. So entries go through a bounded queue to a thread. While the queue is full, entries are
dropped and counted. Knows no format.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar, final

from togetherchat_server.telemetry.call_record import CallRecord

LINES_MAX: Final = 10_000
CLOSE_S: Final = 2.0
GATHER_S: Final = 0.02
WRITE_CHARACTERS_MAX: Final = 4096
"""Characters of several lines that are written at once. Linux does not mix writes of this size to a pipe
with those of other processes (PIPE_BUF, pipe(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """What one line is about: a call, or a message."""

    level: int
    """A level of the module `logging`."""
    record: CallRecord | None = None
    message: str = ""
    suppressed: int = 0
    """Entries of the same kind that were not written."""


Format = Callable[[LogEntry], str]
Entry = TypeVar("Entry")
Entry_contra = TypeVar("Entry_contra", contravariant=True)


class EntryWriter(Protocol[Entry_contra]):
    """Takes entries, and never makes its caller wait."""

    def write(self, entry: Entry_contra, /) -> None: ...


class LineStream(Protocol):
    """Where lines are written: a text stream, or what behaves like one. Raises OSError."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


@final
class LogWriter(Generic[Entry]):
    """Writes lines to a stream that may be slow, and never makes its caller wait.

    The thread gathers entries for a moment before it writes again: waking it up for every line cost
    a busy service a tenth of its CPU.
    """

    def __init__(
        self,
        stream: LineStream,
        line_of: Callable[[Entry], str],
        *,
        lines_max: int = LINES_MAX,
        name: str = "log",
    ) -> None:
        self._stream = stream
        self._line_of = line_of
        self._lines_max = lines_max
        self._entries: deque[Entry] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._write_all, name=name, daemon=True)
        self._thread.start()

    def write(self, entry: Entry) -> None:
        if len(self._entries) >= self._lines_max:
            self.dropped += 1
            return
        self._entries.append(entry)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what is queued, for at most two seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _write_all(self) -> None:
        while not (self._closing.is_set() and not self._entries):
            self._wake.wait()
            self._wake.clear()  # before the entries are read: one that arrives now sets it again
            self._write_queued()
            self._closing.wait(GATHER_S)

    def _write_queued(self) -> None:
        unflushed, characters = 0, 0
        try:
            while self._entries:
                line = self._line_of(self._entries.popleft()) + "\n"
                unflushed += 1
                if unflushed > 1 and characters + len(line) > WRITE_CHARACTERS_MAX:
                    self._stream.flush()
                    unflushed, characters = 1, 0
                self._stream.write(line)
                characters += len(line)
            self._stream.flush()
        except (OSError, ValueError):
            # A full disk, or a reader that has closed the pipe: the service continues without its log.
            self.dropped += unflushed
