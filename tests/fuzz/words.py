"""The tokens of the fuzzed formats, which a fuzzer would take days to find by chance."""

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel

from fuzz.targets import answers
from togetherchat_server.providers.together import error_tables, schema

_FRAMES: Final = (
    "data: ",
    "data:",
    "event: error\n",
    "[DONE]",
    "\n\n",
    "\r\n\r\n",
    "\r",
    "\ufeff",
    ": ",
    "id: ",
)
_JSON: Final = (
    "null", "true", '""', "[]", "{}", "NaN", "1e999", "-1", "0.5", "2147483648", "18446744073709551616", "1.0",
    '"\\ud83d"', '"\\ude00"', '"\\ud83d\\ude00"', "\\u0000", "\u2028", '","', '":"', "},{", "[[[[", '"choices":[{',
)  # fmt: skip
_HEADERS: Final = (
    "retry-after: 7\n", "retry-after-ms: 50\n", "x-ratelimit-reset: 1\n", "x-request-id: ", "date: ",
    "Wed, 21 Oct 2026 07:28:00 GMT", "99999999999999999999\n", "0.5\n",
)  # fmt: skip
_PHRASES: Final = (
    "maximum context length", "exceeds the context window", "inputs tokens + max_new_tokens must be <= 4096",
    "Unable to access model", "model m does not exist", "insufficient", "rate limit", "requests per minute",
    "tokens per second", "Bearer ", "tgp_v1_",
)  # fmt: skip


def words() -> list[bytes]:
    """Every token once."""
    own = (answers.CANARY, answers.MODEL)
    found = (
        *_FRAMES,
        *_JSON,
        *_HEADERS,
        *_PHRASES,
        *own,
        *error_tables.CODES,
        *(f'"{key}":' for key in _keys()),
    )
    return list(dict.fromkeys(word.encode() for word in found))


def dictionary() -> str:
    """The tokens as a libFuzzer dictionary, one quoted token per line."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words())


def _keys() -> Iterator[str]:
    for shape in vars(schema).values():
        if isinstance(shape, type) and issubclass(shape, BaseModel):
            yield from shape.model_fields
