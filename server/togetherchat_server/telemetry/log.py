"""One line a call, by structlog. Lines hold keys, and nothing of what callers and models said.

structlog's loggers write where they are called, which here is the event loop: so the one that is
wrapped is a queue, `LogWriter`. Its global configuration is neither read nor set.

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
import structlog
from structlog.processors import JSONRenderer, add_log_level
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from togetherchat_server.telemetry import console_log
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.log_writer import LogWriter

OURS: Final = "togetherchat_server"
LIBRARIES: Final = ("grpc", "asyncio", "httpx", "uvicorn")

LogFormat = Literal["json", "text"]

_RATE_LIMITS: Final = "rate_limits"
_FIELDS: Final = tuple(field.name for field in fields(CallRecord) if field.name != _RATE_LIMITS)
_ERRORS: Final = frozenset({"SERVICE_KEY_REJECTED", "INTERNAL_ERROR", "UPSTREAM_TLS_FAILED"})
"""What an operator must mend."""


def logger_of(writer: LogWriter, form: LogFormat) -> FilteringBoundLogger:
    """A logger whose lines go to `writer`."""
    chain: dict[LogFormat, tuple[Processor, ...]] = {
        "json": (_unfolded, JSONRenderer(serializer=_json)),
        "text": (console_log.in_words, console_log.renderer(colours=console_log.colours_wanted(writer))),
    }
    proxy: FilteringBoundLogger = structlog.wrap_logger(
        writer,
        processors=(add_log_level, *chain[form]),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
        cache_logger_on_first_use=True,
        # Bound so that they come first: a key keeps the place that it was given first.
        event="",
        level="",
    )
    return proxy.bind()


@final
class CallLog:
    """The sink of call records.

    A record goes along whole: as keywords its fields would be copied three times on the way to
    the first processor, which was half of what a line costs.
    """

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger

    def __call__(self, record: CallRecord) -> None:
        level = logging.ERROR if record.reason in _ERRORS else logging.INFO
        self._logger.log(level, "call", record=record)


@final
class LogHandler(logging.Handler):
    """Sends what the service and its libraries log the same way."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        self._logger.log(level, "log", message=_said(record))


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


def _unfolded(_logger: LogWriter, _level: str, line: EventDict) -> EventDict:
    """The fields of a record for the record, but for those that never came to be."""
    record = line.pop("record", None)
    if not isinstance(record, CallRecord):
        return line
    for name in _FIELDS:
        value: object = getattr(record, name)
        if value is not None and value != "":
            line[name] = round(value, 4) if isinstance(value, float) else value
    if record.rate_limits:
        line[_RATE_LIMITS] = dict(record.rate_limits)
    return line


def _json(line: EventDict, **_default: object) -> str:
    text = orjson.dumps(line)
    # Escaped where it is not ASCII: a model's name may hold what readers of lines take for a line's end.
    return text.decode("ascii") if text.isascii() else json.dumps(line)
