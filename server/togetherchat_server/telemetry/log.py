"""Writes one log line per call, through structlog. Lines never hold prompts, completions or keys.

An entry is queued where it occurs, which is mostly the event loop. `LogWriter`'s thread formats and
writes it, so that neither a slow reader nor the formatting delays a token. structlog's global
configuration is neither read nor set.

Messages of libraries take the same way. By default Python writes their warnings to standard error
from wherever they are raised, and gRPC's contain what callers sent: a header with a byte that is
not UTF-8 is printed in full, even a key (grpcio 1.85). So only the template of a library's message
is written, and of an exception its type and its location, never its text.
"""

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import PurePath
from typing import Final, final

import orjson
import structlog
from structlog.processors import JSONRenderer, add_log_level
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from togetherchat_server.config import LogFormat
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.telemetry import console_log
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.log_writer import EntryWriter, Format, LogEntry
from togetherchat_server.telemetry.repeat_limiter import RepeatLimiter

OURS: Final = "togetherchat_server"
CALLS_PER_SECOND: Final = 50
"""Lines of calls that were rejected for one reason, of one tenant or address."""
MESSAGES_PER_SECOND: Final = 1
"""Lines with one and the same warning."""
LIBRARIES: Final = ("grpc", "asyncio", "httpx", "uvicorn")

_RATE_LIMITS: Final = "rate_limits"
# `user` may be personal data, and the others are for the usage ledger.
UNLOGGED: Final = frozenset({"record_id", "received_us", "user", "billed", "metered"})
_FIELDS: Final = tuple(
    field.name for field in fields(CallRecord) if field.name not in {_RATE_LIMITS, *UNLOGGED}
)
_FLOODED: Final = frozenset(reason for reason in Reason if reason.row.floods)
_OPERATOR_ACTS: Final = frozenset(reason for reason in Reason if reason.row.operator_acts)


def formatter(log_format: LogFormat, *, terminal: bool) -> Format:
    """Return the function that formats an entry as one line; on a `terminal` with colours."""
    processors: dict[LogFormat, tuple[Processor, ...]] = {
        "json": (_record_fields, JSONRenderer(serializer=_json)),
        "text": (
            console_log.record_columns,
            console_log.renderer(colours=terminal and console_log.colours_wanted()),
        ),
    }
    proxy: FilteringBoundLogger = structlog.wrap_logger(
        structlog.ReturnLogger(),
        processors=(add_log_level, *processors[log_format]),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
        cache_logger_on_first_use=True,
        # Bound here so that they come first: a key keeps its first position.
        event="",
        level="",
    )
    logger = proxy.bind()

    def formatted(entry: LogEntry) -> str:
        # A record is passed as one object. As keywords its fields would be copied three times on the
        # way to the first processor, which was half of the cost of a line.
        more = {"suppressed": entry.suppressed} if entry.suppressed else {}
        if entry.record is not None:
            return logger.log(entry.level, "call", record=entry.record, **more)
        return logger.log(entry.level, "log", message=entry.message, **more)

    return formatted


@final
class CallLog:
    """The sink of call records. Rejections that a flood of calls causes are not all written."""

    def __init__(self, writer: EntryWriter[LogEntry]) -> None:
        self._writer = writer
        self._limiter = RepeatLimiter(CALLS_PER_SECOND)

    def __call__(self, record: CallRecord) -> None:
        level = logging.ERROR if record.reason in _OPERATOR_ACTS else logging.INFO
        suppressed: int | None = 0
        if record.reason in _FLOODED and not record.attempts:
            suppressed = self._limiter.admit((record.reason, record.tenant, record.client_address))
        if suppressed is not None:
            self._writer.write(LogEntry(level=level, record=record, suppressed=suppressed))


@final
class LogHandler(logging.Handler):
    """Passes the messages of the service and of its libraries to the same writer.

    Of one message, one a second is written. A library's message is known by its template.
    """

    def __init__(self, writer: EntryWriter[LogEntry]) -> None:
        super().__init__()
        self._writer = writer
        self._limiter = RepeatLimiter(MESSAGES_PER_SECOND)

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        message, suppressed = _message(record), 0
        if level >= logging.WARNING:
            suppressed = self._limiter.admit(message)
        if suppressed is not None:
            self._writer.write(LogEntry(level=level, message=message, suppressed=suppressed))


def attach(handler: logging.Handler) -> Callable[[], None]:
    """Add `handler` to the loggers of the service and its libraries; return the function that removes it."""
    loggers = [logging.getLogger(name) for name in (OURS, *LIBRARIES)]
    for logger in loggers:
        logger.addHandler(handler)
    loggers[0].setLevel(logging.INFO)

    def detach() -> None:
        for logger in loggers:
            logger.removeHandler(handler)

    return detach


def _message(record: logging.LogRecord) -> str:
    """Return the service's own message in full, and of a library's the first line of its template."""
    ours = record.name.partition(".")[0] == OURS
    text = record.getMessage() if ours else f"{record.name}: {str(record.msg).partition(chr(10))[0]}"
    error = record.exc_info[1] if record.exc_info else None
    return text if error is None else f"{text}: {_location(error)}"


def _location(error: BaseException) -> str:
    """Return an exception's type and frames, outermost first. Its text may hold a prompt or a key."""
    frames = (
        f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    )
    return f"{type(error).__name__} in {' > '.join(frames)}"


def _record_fields(_logger: object, _level: str, line: EventDict) -> EventDict:
    """Replace a record by its fields, without those that are empty."""
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
    # Escape what is not ASCII: a model's name may hold a character that some readers take for a line break.
    return text.decode("ascii") if text.isascii() else json.dumps(line)
