"""An HTTP/2 peer with hand-written frames, for behaviour that no gRPC client has.

Owns the frames (RFC 9113) and the simplest form of header block (RFC 7541: literals without
indexing, no Huffman coding). Does not know the code under test. The peer reads at all times,
acknowledges SETTINGS unless `acknowledges=False`, and pings unless `pongs=False`, and grants no flow control of its own.

    async with http2_peer(addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer:
        peer.call(1, "/grpc.health.v1.Health/Watch", b"")
        await peer.seen(lambda frame: frame.kind == HEADERS and frame.stream == 1)
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 0x1, 0x3, 0x4
CANCEL = 0x8
ENHANCE_YOUR_CALM = 0xB
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REASONABLE_S = 20.0
"""How long a test waits for an event, on a busy machine."""

Header = tuple[str | bytes, str | bytes]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as received."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error(self) -> int:
        """The error code of a GOAWAY or RST_STREAM."""
        start = 4 if self.kind == GOAWAY else 0
        return int.from_bytes(self.payload[start : start + 4], "big")

    @property
    def settings(self) -> dict[int, int]:
        """The values of a SETTINGS frame."""
        return dict(struct.iter_unpack("!HI", self.payload))


class Http2Peer:
    """A client connection; `frames` holds every received frame, oldest first."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pongs: bool, acknowledges: bool
    ) -> None:
        self.frames: list[Frame] = []
        self.closed = False
        self._reader = reader
        self._writer = writer
        self._pongs = pongs
        self._acknowledges = acknowledges
        self._changed = asyncio.Event()

    def send(self, kind: int, *, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        """Send one frame."""
        self._writer.write(
            struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream) + payload
        )

    def open(self, stream: int, method: str, extra: Iterable[Header] = ()) -> None:
        """Send the headers of a gRPC call, and nothing after them."""
        self.send(HEADERS, flags=END_HEADERS, stream=stream, payload=header_block(method, extra))

    def message(self, stream: int, message: bytes, *, last: bool = True) -> None:
        """Send a gRPC message in one DATA frame; by default the last frame of this side."""
        framed = b"\x00" + struct.pack("!I", len(message)) + message
        self.send(DATA, flags=END_STREAM if last else 0, stream=stream, payload=framed)

    def call(self, stream: int, method: str, message: bytes, extra: Iterable[Header] = ()) -> None:
        """Send a complete request."""
        self.open(stream, method, extra)
        self.message(stream, message)

    def ping(self, number: int) -> None:
        self.send(PING, payload=struct.pack("!Q", number))

    def reset(self, stream: int) -> None:
        self.send(RST_STREAM, stream=stream, payload=struct.pack("!I", CANCEL))

    async def flush(self) -> None:
        """Wait until the kernel has accepted what was sent."""
        await self._writer.drain()

    def abort(self) -> None:
        """Close the socket without a GOAWAY."""
        self._writer.transport.abort()

    async def seen(
        self, wanted: Callable[[Frame], bool], *, times: int = 1, within_s: float = REASONABLE_S
    ) -> Frame:
        """Wait for a matching frame, or for the n-th one. Raises TimeoutError if none arrives."""
        async with asyncio.timeout(within_s):
            while len(found := [frame for frame in self.frames if wanted(frame)]) < times:
                await self._wait_for_change()
        return found[times - 1]

    async def ended(self, *, within_s: float = REASONABLE_S) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(within_s):
            while not self.closed:
                await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def read_all(self) -> None:
        """Read frames until the connection ends."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._receive(Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed = True
            self._changed.set()

    def _receive(self, frame: Frame) -> None:
        if frame.kind == SETTINGS and not frame.flags & ACK and self._acknowledges:
            self.send(SETTINGS, flags=ACK)
        if frame.kind == PING and not frame.flags & ACK and self._pongs:
            self.send(PING, flags=ACK, payload=frame.payload)
        self.frames.append(frame)
        self._changed.set()


@asynccontextmanager
async def http2_peer(
    address: str, settings: Mapping[int, int] | None = None, *, pongs: bool = True, acknowledges: bool = True
):
    """A connected peer that has sent its SETTINGS. Leaving the context closes the socket without a GOAWAY."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    peer = Http2Peer(reader, writer, pongs=pongs, acknowledges=acknowledges)
    writer.write(PREFACE)
    # Without a header table every header of the server arrives as a literal.
    chosen = {HEADER_TABLE_SIZE: 0, **(settings or {})}
    peer.send(SETTINGS, payload=b"".join(struct.pack("!HI", *one) for one in chosen.items()))
    reading = asyncio.create_task(peer.read_all())
    try:
        yield peer
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        peer.abort()


def header_block(method: str, extra: Iterable[Header] = ()) -> bytes:
    """The headers of a gRPC request, followed by extra ones, byte for byte."""
    usual = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    return b"".join(header(name, value) for name, value in (*usual, *extra))


def header(name: str | bytes, value: str | bytes) -> bytes:
    """One header as a literal without indexing."""
    return _literal(_bytes(name), _bytes(value))


def status_in(frame: Frame) -> int:
    """The `grpc-status` in a block of trailers."""
    _, found, rest = frame.payload.partition(b"grpc-status")
    assert found, "no grpc-status in this block"
    return int(rest[1 : 1 + rest[0]])


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(number: int) -> bytes:
    """An integer with a prefix of seven bits."""
    if number < 127:
        return bytes((number,))
    number, coded = number - 127, bytearray(b"\x7f")
    while number >= 128:
        coded.append(number % 128 + 128)
        number //= 128
    return bytes((*coded, number))


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
