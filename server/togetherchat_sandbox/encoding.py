"""JSON and server-sent events: encoding, decoding and the type of unchecked values.

Knows no field of the API.
"""

from typing import TypeAlias, cast

import orjson

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"


def decode(data: bytes) -> Json:
    """Decode JSON.

    Raises:
        ValueError: `data` is not JSON or not UTF-8.
    """
    return cast("Json", orjson.loads(data))


def encode(value: Json) -> bytes:
    """Encode compact JSON in UTF-8. Like Together, U+2028 is not escaped."""
    return orjson.dumps(value)


def event(value: JsonObject) -> bytes:
    """Encode one server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def as_object(value: Json) -> JsonObject:
    """Return `value` if it is an object, else an empty object: for optional parts."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """Return `value` if it is an array, else an empty array."""
    return value if isinstance(value, list) else []
