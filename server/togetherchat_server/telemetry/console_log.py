"""The lines of the log as a person reads them: columns first, then what else there is to say.

Owns which words make up a line, their order and their colours. What is in a line may come from
callers, the name of a model at least: it can end no line, give a terminal no order, and pose as
no other word.
"""

import json
import os
from collections.abc import Callable
from typing import Final

from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter
from structlog.typing import EventDict

from togetherchat_server.domain.reasons import sanitise
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.log_writer import LogWriter

WORD_CHARACTERS_MAX: Final = 200
MESSAGE_CHARACTERS_MAX: Final = 2000
METHOD_WIDTH: Final = len("chat.completions")
TOOK_WIDTH: Final = 8
CODE_WIDTH: Final = len("UNAVAILABLE")


def colours_wanted(writer: LogWriter) -> bool:
    """As https://no-color.org has it, and where a person reads along."""
    return writer.terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def in_words(_logger: LogWriter, level: str, line: EventDict) -> EventDict:
    """A record in a few words, or the message of what is no call."""
    record = line.pop("record", None)
    if not isinstance(record, CallRecord):
        return {"level": level, "message": line.get("message")}
    done = record.completion_tokens
    words = {
        "level": level,
        "method": record.method.rpartition("/")[2] or "-",
        "took": f"{_ms(record.duration_s):>{TOOK_WIDTH}}",
        "code": record.code,
        "model": record.model,
        "asked": record.model_asked,
        "reason": record.reason,
        "first": _ms(record.first_token_s),
        "tokens": f"{record.prompt_tokens or 0}+{done}" if done else "",
        "attempts": record.attempts if record.attempts > 1 else "",
        "tenant": record.tenant,
        "upstream": record.upstream,
        "id": record.id,
        "trace": record.trace,
    }
    return {name: word for name, word in words.items() if word != ""}


def renderer(*, colours: bool) -> ConsoleRenderer:
    """Makes a line of the words."""
    styles = ConsoleRenderer.get_default_column_styles(colours)
    levels = ConsoleRenderer.get_default_level_styles(colours)
    del levels["exception"]  # no level of ours, and the longest: columns are as wide as that

    def column(
        style: str = "", *, key: str | None = None, width: int = 0, text: Callable[[object], str] = _word
    ) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(key, style, styles.reset, text, width)

    columns = {
        "level": LogLevelColumnFormatter(levels, styles.reset),
        "method": column(styles.bright, width=METHOD_WIDTH),
        "took": column(text=str),
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


def _word(value: object) -> str:
    """One word, in quotes where it could be taken for two or for a key and its value."""
    text = sanitise(str(value), characters_max=WORD_CHARACTERS_MAX)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(" =\"'") else text
