"""What an attack knows of its victim, and how it connects."""

import asyncio
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from support.http2_peer import ACK, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, header_block

KIBIBYTE, MEBIBYTE = 2**10, 2**20
RECONNECT_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Target:
    """The listeners of the victim (HOST:PORT), a key for it, and when the attack ends."""

    grpc: str
    http: str
    admin: str
    key: str
    seconds: float
    rounds: int
    """How often each connection repeats its attack at most: it ends after this or after `seconds`."""
    connections: int
    """How many connections a flood opens at most."""
    began_s: float = field(default_factory=time.monotonic)
    seen: Counter[str] = field(default_factory=Counter)
    """What the victim answered, by kind."""

    @property
    def over(self) -> bool:
        return time.monotonic() - self.began_s >= self.seconds

    @asynccontextmanager
    async def connected(self, address: str, source: int = 0):
        """Connect from 127.0.1.x, so that honest callers have another address."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(
            host, int(port), local_addr=(f"127.0.1.{1 + source % 250}", 0), limit=4 * MEBIBYTE
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def repeat(self, attack: Callable[[int], Awaitable[None]], *, parallel: int = 1) -> None:
        """Run an attack again and again, on several connections at a time. Errors of sockets are results."""

        async def one(number: int) -> None:
            for _ in range(self.rounds):
                if self.over:
                    return
                try:
                    async with asyncio.timeout(max(0.1, self.seconds - (time.monotonic() - self.began_s))):
                        await attack(number)
                except TimeoutError:
                    self.seen["still open"] += 1
                except (OSError, asyncio.IncompleteReadError) as error:
                    self.seen[type(error).__name__] += 1
                    await asyncio.sleep(RECONNECT_S)

        await asyncio.gather(*(one(number) for number in range(parallel)))


class Http2Flood:
    """Writes frames as fast as the victim reads them, and counts what it answers."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Counter[str]
    ) -> None:
        self.writer = writer
        self.closed = asyncio.Event()
        self._reader = reader
        self._seen = seen
        self._reading = asyncio.create_task(self._read())
        writer.write(PREFACE + frame(SETTINGS))

    async def drain(self) -> None:
        """Wait until the victim has read most of what was written. Raises OSError if it has closed."""
        if self.closed.is_set():
            raise ConnectionResetError
        await self.writer.drain()

    def call(self, stream: int, method: str, message: bytes = b"", *extra, last: bool = True) -> None:
        self.writer.write(
            frame(HEADERS, 4, stream, header_block(method, extra)) + (data(stream, message, last=last))
        )

    async def _read(self) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == SETTINGS and not flags & ACK:
                    self.writer.write(frame(SETTINGS, ACK))
                elif kind == GOAWAY:
                    self._seen["GOAWAY"] += 1
                elif kind == RST_STREAM:
                    self._seen[f"RST_STREAM {int.from_bytes(payload, 'big')}"] += 1
                elif kind == HEADERS and flags & 1:
                    self._seen[f"status {_status(payload)}"] += 1
        self.closed.set()


def _status(trailers: bytes) -> str:
    """Return the `grpc-status` of trailers that have it as a literal; `?` if it is coded otherwise."""
    value = trailers.partition(b"grpc-status")[2]
    text = value[1 : 1 + value[0]] if value else b""
    return text.decode("ascii") if text.isdigit() else "?"


@asynccontextmanager
async def flooding(target: Target, source: int = 0):
    """An HTTP/2 connection to the gRPC listener."""
    async with target.connected(target.grpc, source) as (reader, writer):
        flood = Http2Flood(reader, writer, target.seen)
        try:
            yield flood
        finally:
            flood._reading.cancel()


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream) + payload


def data(stream: int, message: bytes, *, compressed: bool = False, last: bool = True) -> bytes:
    """Return a gRPC message in frames of 16 KiB."""
    framed = bytes((compressed,)) + struct.pack("!I", len(message)) + message
    pieces = [framed[at : at + 2**14] for at in range(0, len(framed), 2**14)]
    return b"".join(
        frame(0, 1 if last and index == len(pieces) - 1 else 0, stream, piece)
        for index, piece in enumerate(pieces)
    )
