"""One line a call. Lines hold keys, no sentences, and nothing of what callers and models said.

What libraries log comes the same way. Left alone, Python writes their warnings to standard
error from wherever they arise. And gRPC's hold what callers sent: a header with a byte that
is no UTF-8 is printed whole, a key too (grpcio 1.85). So of a library's record only the
template is written, and of an exception its type and where it arose, never its text.
"""

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import PurePath
from typing import Final, Literal, final

import orjson

from togetherchat_server.errors import sanitise
from togetherchat_server.observe.lines import LineWriter
from togetherchat_server.observe.record import CallRecord

TEXT_LINE_MAX: Final = 2000

OURS: Final = "togetherchat_server"
LIBRARIES: Final = ("grpc", "aiohttp", "asyncio", "httpx", "uvicorn")

Form = Literal["json", "text"]

_RATE_LIMITS: Final = "rate_limits"
_FIELDS: Final = tuple(field.name for field in fields(CallRecord) if field.name != _RATE_LIMITS)
_LEVELS: Final = {"SERVICE_KEY_REJECTED": "error", "INTERNAL_ERROR": "error", "UPSTREAM_TLS_FAILED": "error"}


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
