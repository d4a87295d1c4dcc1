"""Log lines for a person: columns first, then named values.

Owns the values of a line, their order and their colours. Some values come from callers, such as
the name of a model. Such a value cannot break the line, control a terminal, or look like another
value.
"""

import json
import os
from collections.abc import Callable
from typing import Final

from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter
from structlog.typing import EventDict

from togetherchat_server.domain.reasons import sanitise
from togetherchat_server.telemetry.call_record import CallRecord

VALUE_CHARACTERS_MAX: Final = 200
MESSAGE_CHARACTERS_MAX: Final = 2000
METHOD_WIDTH: Final = len("chat.completions")
DURATION_WIDTH: Final = 8
CODE_WIDTH: Final = len("UNAVAILABLE")


def colours_wanted() -> bool:
    """Return whether to colour lines on a terminal: unless NO_COLOR is set (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def record_columns(_logger: object, level: str, line: EventDict) -> EventDict:
    """Return the values of a record's line, or of a message that is not about a call."""
    record = line.pop("record", None)
    if not isinstance(record, CallRecord):
        return {"level": level, "message": line.get("message")}
    output_tokens = record.completion_tokens
    values = {
        "level": level,
        "method": record.method.rpartition("/")[2] or "-",
        "duration": f"{_ms(record.duration_s):>{DURATION_WIDTH}}",
        "code": record.code,
        "model": record.model,
        "requested": record.model_requested,
        "reason": record.reason,
        "first": _ms(record.first_token_s),
        "tokens": f"{record.prompt_tokens or 0}+{output_tokens}" if output_tokens else "",
        "attempts": record.attempts if record.attempts > 1 else "",
        "tenant": record.tenant,
        "upstream": record.upstream,
        "id": record.id,
        "trace": record.trace,
    }
    return {name: value for name, value in values.items() if value != ""}


def renderer(*, colours: bool) -> ConsoleRenderer:
    """Return the structlog renderer of the values."""
    styles = ConsoleRenderer.get_default_column_styles(colours)
    levels = ConsoleRenderer.get_default_level_styles(colours)
    del levels["exception"]  # not used, and the longest: it would widen the column

    def column(
        style: str = "", *, key: str | None = None, width: int = 0, text: Callable[[object], str] = _quoted
    ) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(key, style, styles.reset, text, width)

    columns = {
        "level": LogLevelColumnFormatter(levels, styles.reset),
        "method": column(styles.bright, width=METHOD_WIDTH),
        "duration": column(text=str),
        "code": column(styles.bright, width=CODE_WIDTH),
        "model": column(styles.logger_name),
        "message": column(text=_message),
        "reason": column(styles.level_error, key=styles.kv_key),
        "": column(styles.kv_value, key=styles.kv_key),
    }
    return ConsoleRenderer(
        sort_keys=False, columns=[Column(name, formatter) for name, formatter in columns.items()]
    )


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f}ms"


def _message(value: object) -> str:
    return sanitise(str(value), characters_max=MESSAGE_CHARACTERS_MAX)


def _quoted(value: object) -> str:
    """Return the value, in quotes if it could be read as two values or as a name and a value."""
    text = sanitise(str(value), characters_max=VALUE_CHARACTERS_MAX)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(" =\"'") else text
