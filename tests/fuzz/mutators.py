"""Mutators that keep the format of an input: randomly changed bytes are seldom valid JSON or protobuf.

Each takes an input, a random source and the fuzzer's own mutation of bytes, and returns a changed
input, or None if the input is not in the format. Does not depend on a fuzzer.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from fuzz.targets import answers
from togetherchat.v1 import chat_service_pb2 as service

Change = Callable[[bytes, int], bytes]
"""The fuzzer's own mutation: bytes, and the maximum size of the result."""
Mutator = Callable[[bytes, random.Random, Change], bytes | None]

TEXT_BYTES_MAX: Final = 256
VALUES: Final = (
    None, True, 0, -1, 7, 0.5, 2**31, 2**64, 1.5924764223251450e19, "", "text", "\ud83d", [], {}, [None], [[]],
    answers.CANARY,
)  # fmt: skip
HEADERS: Final = (
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-reset",
    "date",
    "x-request-id",
    "x-ratelimit-limit",
)
HEADER_VALUES: Final = (
    "7", "0.25", "9" * 12, "9" * 20, "9" * 32, "-1", "Fri, 31 Dec 9999 23:59:59 GMT", "Wed, 21 Oct 2026 07:28:00 GMT",
)  # fmt: skip
WHOLE_NUMBERS: Final = (0, 1, 2, 20, 128, 2**31 - 1, -1, -(2**31))
SCALARS: Final = {
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, 1.0, 0.7, -2.1, 5e-324, 1e308, float("nan"), float("inf")),
    FieldDescriptor.CPPTYPE_BOOL: (True, False),
    FieldDescriptor.CPPTYPE_ENUM: tuple(range(8)),
}
JSON_TEXTS: Final = (
    '{"a":{"b":{"c":[[[]]]}}}',
    "{}",
    '{"a":1.0}',
    '{"a":[{"b":null}]}',
    "[]",
    "nul",
    '{"stream":true}',
    '{"temperature":1}',
    " {} ",
)


def of_json(data: bytes, dice: random.Random, change: Change) -> bytes | None:
    """Two bytes of decisions, maybe headers up to a zero byte, then JSON: changes one value in it."""
    head, zero, body = data[2:].rpartition(b"\0")
    try:
        root: list[object] = [json.loads(body)]
    except (ValueError, RecursionError):
        return None
    positions = list(_positions(root))
    holder, key = dice.choice(positions)
    match dice.randrange(5):
        case 0:
            head, zero = _header(dice, change), b"\0"
        case 1:
            holder[key] = dice.choice(VALUES)
        case 2:
            other, other_key = dice.choice(positions)
            holder[key] = json.loads(json.dumps(other[other_key]))
        case 3 if holder is not root:
            del holder[key]
        case _:
            holder[key] = _changed(holder[key], change)
    with suppress(ValueError, RecursionError):
        return data[:2] + head + zero + json.dumps(root[0]).encode()
    return None


def of_request(data: bytes, dice: random.Random, change: Change) -> bytes | None:
    """A byte of decisions, then a `CompleteRequest`: sets, changes or clears one field in it."""
    try:
        request = service.CompleteRequest.FromString(data[1:])
    except DecodeError:
        return None
    message = dice.choice(list(_messages(request)))
    field = dice.choice(message.DESCRIPTOR.fields)
    if dice.randrange(8) == 0:
        message.ClearField(field.name)
    else:
        with suppress(ValueError, TypeError):  # out of range, or invalid UTF-8
            _set(message, field, dice, change)
    return data[:1] + request.SerializeToString()


MUTATORS: Final[Mapping[str, Mutator]] = {"answers": of_json, "caller": of_request}


def _positions(root: object) -> Iterator[tuple[object, object]]:
    """Every container and key in the tree."""
    pending = [root]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                pending.append(holder[key])


def _header(dice: random.Random, change: Change) -> bytes:
    value = dice.choice(HEADER_VALUES).encode()
    if dice.randrange(4) == 0:
        value = change(value, TEXT_BYTES_MAX).replace(b"\0", b"")
    return dice.choice(HEADERS).encode() + b": " + value + b"\n"


def _changed(value: object, change: Change) -> object:
    match value:
        case str():
            return change(value.encode("utf-8", "replace"), TEXT_BYTES_MAX).decode("utf-8", "replace")
        case dict():
            return {_changed(key, change): item for key, item in value.items()}
        case list():
            return value * 2
        case _:
            return [value]


def _messages(message: Message) -> Iterator[Message]:
    """The message and its submessages that have fields to change."""
    if message.DESCRIPTOR.fields:
        yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.message_type.GetOptions().map_entry:
            for child in value if field.is_repeated else (value,):
                yield from _messages(child)


def _set(message: Message, field: FieldDescriptor, dice: random.Random, change: Change) -> None:
    name = field.name
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if field.message_type.GetOptions().map_entry:
            getattr(message, name)[str(dice.randrange(300))] = dice.choice((0.5, -101.0, float("nan")))
        elif field.is_repeated:
            getattr(message, name).add()
        else:
            getattr(message, name).SetInParent()
    elif field.is_repeated:
        getattr(message, name).append(_value(field, "", dice, change))
    else:
        setattr(message, name, _value(field, getattr(message, name), dice, change))


def _value(field: FieldDescriptor, now: object, dice: random.Random, change: Change) -> object:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return change(now or b"", TEXT_BYTES_MAX)
        case FieldDescriptor.CPPTYPE_STRING if _is_json(field.name) and dice.randrange(2):
            return dice.choice(JSON_TEXTS)
        case FieldDescriptor.CPPTYPE_STRING:
            text = answers.CANARY if dice.randrange(16) == 0 else str(now)
            return change(text.encode(), TEXT_BYTES_MAX).decode("utf-8", "replace")
        case kind:
            return dice.choice(SCALARS.get(kind, WHOLE_NUMBERS))


def _is_json(name: str) -> bool:
    return name.endswith(("_json", "arguments"))
