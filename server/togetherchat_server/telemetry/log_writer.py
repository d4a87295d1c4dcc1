"""Writes log lines on a thread of its own.

A pipe that is not read blocks its writer: a line written from the event loop would stop the
service. So lines go through a bounded queue to a thread. While the queue is full, lines are
dropped and counted. Knows neither records nor formats.
"""

import threading
from collections import deque
from typing import Final, TextIO, final

LINES_MAX: Final = 10_000
CLOSE_S: Final = 2.0
GATHER_S: Final = 0.02


@final
class LogWriter:
    """Writes lines to a stream that may be slow, and never makes its caller wait.

    The thread gathers lines for a moment before it writes again: waking it up for every line cost
    a busy service a tenth of its CPU.
    """

    def __init__(self, stream: TextIO, *, lines_max: int = LINES_MAX) -> None:
        self._stream = stream
        self._lines_max = lines_max
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        if len(self._lines) >= self._lines_max:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    # structlog calls the method that has the name of the line's level.
    debug = info = warning = error = critical = write

    @property
    def terminal(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def close(self) -> None:
        """Write what is queued, for at most two seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _write_all(self) -> None:
        while not (self._closing.is_set() and not self._lines):
            self._wake.wait()
            self._wake.clear()  # before the lines are read: a line that arrives now sets it again
            self._write_queued()
            self._closing.wait(GATHER_S)

    def _write_queued(self) -> None:
        written = 0
        try:
            while self._lines:
                written += 1
                self._stream.write(self._lines.popleft() + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # A full disk, or a reader that has closed the pipe: the service continues without its log.
            self.dropped += written
