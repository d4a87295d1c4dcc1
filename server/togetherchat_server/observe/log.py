"""One line a call, written by a thread of its own.

A pipe that nobody reads blocks its writer: a line written from the event loop would stop the
service for the sake of its log. So lines go through a bounded queue to a thread, and are
dropped and counted while it is full. Lines hold keys, no sentences, and nothing of what
callers and models said.

What libraries log comes the same way. Left alone, Python writes their warnings to standard
error from wherever they arise. And gRPC's hold what callers sent: a header with a byte that
is no UTF-8 is printed whole, a key too (grpcio 1.85). So of a library's record only the
template is written, and of an exception its type and where it arose, never its text.
"""

import json
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from pathlib import PurePath
from typing import Final, Literal, TextIO, final

import orjson

from togetherchat_server.errors import sanitise
from togetherchat_server.observe.record import CallRecord

LINES_MAX: Final = 10_000
CLOSE_S: Final = 2.0
GATHER_S: Final = 0.02
TEXT_LINE_MAX: Final = 2000

OURS: Final = "togetherchat_server"
LIBRARIES: Final = ("grpc", "aiohttp", "asyncio", "httpx", "uvicorn")

Form = Literal["json", "text"]

_RATE_LIMITS: Final = "rate_limits"
_FIELDS: Final = tuple(field.name for field in fields(CallRecord) if field.name != _RATE_LIMITS)
_LEVELS: Final = {"SERVICE_KEY_REJECTED": "error", "INTERNAL_ERROR": "error", "UPSTREAM_TLS_FAILED": "error"}


@final
class LineWriter:
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


@final
class CallLog:
    """The sink of call records."""

    def __init__(self, writer: LineWriter, form: Form) -> None:
        self._writer = writer
        self._line = _json_line if form == "json" else _text_line

    def __call__(self, record: CallRecord) -> None:
        self._writer.write(self._line(record))


@final
class LogHandler(logging.Handler):
    """Sends what the service and its libraries log the same way."""

    def __init__(self, writer: LineWriter, form: Form) -> None:
        super().__init__()
        self._writer = writer
        self._form = form

    def emit(self, record: logging.LogRecord) -> None:
        text = _said(record)
        if self._form == "json":
            text = json.dumps({"event": "log", "level": record.levelname.lower(), "message": text})
        self._writer.write(text)


def attach(handler: logging.Handler) -> Callable[[], None]:
    """Let the loggers of the service and of its libraries use `handler`; the result undoes it."""
    loggers = [logging.getLogger(name) for name in (OURS, *LIBRARIES)]
    for logger in loggers:
        logger.addHandler(handler)
    loggers[0].setLevel(logging.INFO)

    def detach() -> None:
        for logger in loggers:
            logger.removeHandler(handler)

    return detach


def _said(record: logging.LogRecord) -> str:
    """What a record may say: in full if it is ours, else the first line of its template."""
    ours = record.name.partition(".")[0] == OURS
    text = record.getMessage() if ours else f"{record.name}: {str(record.msg).partition(chr(10))[0]}"
    error = record.exc_info[1] if record.exc_info else None
    return text if error is None else f"{text}: {_whence(error)}"


def _whence(error: BaseException) -> str:
    """The type of an exception and where it arose, outermost first; its text may be anyone's."""
    places = (
        f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    )
    return f"{type(error).__name__} in {' > '.join(places)}"


def _json_line(record: CallRecord) -> str:
    line: dict[str, object] = {"event": "call", "level": _LEVELS.get(record.reason, "info")}
    for name in _FIELDS:
        value: object = getattr(record, name)
        if value is not None and value != "":
            line[name] = round(value, 4) if isinstance(value, float) else value
    if record.rate_limits:
        line[_RATE_LIMITS] = dict(record.rate_limits)
    text = orjson.dumps(line)
    # Escaped where it is not ASCII: a model's name may hold what readers of lines take for a line's end.
    return text.decode("ascii") if text.isascii() else json.dumps(line)


def _text_line(record: CallRecord) -> str:
    words = [
        record.method.rpartition("/")[2],
        record.code,
        record.reason,
        record.model,
        f"asked={record.model_asked}" if record.model_asked else "",
        f"{record.duration_s * 1000:.0f}ms",
        f"first={record.first_token_s * 1000:.0f}ms" if record.first_token_s is not None else "",
        f"tokens={record.prompt_tokens or 0}+{record.completion_tokens}" if record.completion_tokens else "",
        f"attempts={record.attempts}" if record.attempts > 1 else "",
        record.upstream,
        record.id,
        f"trace={record.trace}" if record.trace else "",
    ]
    # A model's name is the caller's text: no line end of it, no escape for a terminal.
    return sanitise(" ".join(word for word in words if word), characters_max=TEXT_LINE_MAX)
