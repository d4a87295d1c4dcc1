"""JSON as it travels: the one type for values that nobody has checked yet, and both directions.

Owns the framing of server-sent events too, because there is nothing to it but JSON and a prefix.
Knows no field of the API.
"""

from typing import TypeAlias, cast

import orjson

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"


def decode(data: bytes) -> Json:
    """Read JSON.

    Raises:
        ValueError: it is none, or no UTF-8.
    """
    return cast("Json", orjson.loads(data))


def encode(value: Json) -> bytes:
    """Write compact JSON in UTF-8, as Together does: U+2028 travels as itself."""
    return orjson.dumps(value)


def event(value: JsonObject) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def as_object(value: Json) -> JsonObject:
    """`value` if it is an object, else an empty one: for parts that may be left out."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """`value` if it is an array, else an empty one."""
    return value if isinstance(value, list) else []
