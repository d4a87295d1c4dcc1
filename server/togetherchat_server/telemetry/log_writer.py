"""Lines of a log, written by a thread of its own.

A pipe that nobody reads blocks its writer: a line written from the event loop would stop the
service for the sake of its log. So lines go through a bounded queue to a thread, and are
dropped and counted while it is full. Knows no record and no form.
"""

import threading
from collections import deque
from typing import Final, TextIO, final

LINES_MAX: Final = 10_000
CLOSE_S: Final = 2.0
GATHER_S: Final = 0.02


@final
class LogWriter:
    """Writes lines to a stream that may be slow, without ever making its caller wait.

    The thread gathers lines for a moment before it writes again: to wake it up for each of
    them cost a busy service a tenth of its CPU.
    """

    def __init__(self, stream: TextIO, *, lines_max: int = LINES_MAX) -> None:
        self._stream = stream
        self._lines_max = lines_max
        self._lines: deque[str] = deque()
        self._news = threading.Event()
        self._closing = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        if len(self._lines) >= self._lines_max:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._news.is_set():
            self._news.set()

    # structlog hands a line to the method that is named as its level.
    debug = info = warning = error = critical = write

    @property
    def terminal(self) -> bool:
        """Whether a person reads along."""
        return self._stream.isatty()

    def close(self) -> None:
        """Write what is queued, for at most two seconds."""
        self._closing.set()
        self._news.set()
        self._thread.join(CLOSE_S)

    def _write_all(self) -> None:
        while not (self._closing.is_set() and not self._lines):
            self._news.wait()
            self._news.clear()  # before the lines are taken: one that comes now is news again
            self._write_some()
            self._closing.wait(GATHER_S)

    def _write_some(self) -> None:
        written = 0
        try:
            while self._lines:
                written += 1
                self._stream.write(self._lines.popleft() + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # A full disk or a reader that has gone: the service goes on without its log.
            self.dropped += written
