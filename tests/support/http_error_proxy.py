"""An HTTP/2 server that answers every call with an HTTP error and a page, like a proxy without its upstream.

The model of the request selects the status: `proxy/413`. Frames are written by hand, because no gRPC
server sends such responses. The server grants the flow control that one small request needs.
"""

import asyncio
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from support.http2_peer import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    header,
)

PAGE = b"<html><body>error of a proxy</body></html>"
STATUS = re.compile(rb"proxy/(\d{3})")


@asynccontextmanager
async def http_error_proxy() -> AsyncIterator[str]:
    """The address of the server. Leaving the context closes its connections."""
    connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await _answer_frames(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in connections:
            writer.close()
        await asyncio.gather(*(task for task in connections.values() if task))


async def _answer_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(len(PREFACE))
    _send(writer, SETTINGS)
    messages: dict[int, bytes] = {}
    while True:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind in (SETTINGS, PING) and not flags & ACK:
            _send(writer, kind, flags=ACK, payload=payload if kind == PING else b"")
        if kind == DATA:
            messages[stream] = messages.get(stream, b"") + payload
            if flags & END_STREAM:
                _answer(writer, stream, messages.pop(stream))


def _answer(writer: asyncio.StreamWriter, stream: int, message: bytes) -> None:
    found = STATUS.search(message)
    status = found[1].decode() if found else "404"
    headers = header(":status", status) + header("content-type", "text/html")
    _send(writer, HEADERS, flags=END_HEADERS, stream=stream, payload=headers)
    _send(writer, DATA, flags=END_STREAM, stream=stream, payload=PAGE)


def _send(
    writer: asyncio.StreamWriter, kind: int, *, flags: int = 0, stream: int = 0, payload: bytes = b""
) -> None:
    head = struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream)
    writer.write(head + payload)
