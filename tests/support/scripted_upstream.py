"""An HTTP/1.1 upstream that follows a test's script, byte by byte, and records what it received.

The upstream uses raw sockets on the loopback, plain or TLS, because an HTTP server cannot produce the
faults that matter: a FIN in the middle of a chunk, a reset after the headers, silence. It does not
know the code under test.

A *script* is a callable that receives each request and returns its response: a sequence of *steps*, run
in order. After the last step the connection waits for its next request.

    # steps and common responses are in upstream_script.py
    async with ScriptedUpstream(in_turn(json_response(200, {"id": "1"}), (Reset(),))) as upstream:
        ...  # talk to upstream.base_url
        first, second = upstream.request_log.requests
        await upstream.closed(0, within_s=0.25)

The *request log* is updated as things happen; times are `time.monotonic()` seconds. Wait for the log
(`upstream.until(...)`, `.received(n)`, `.closed(n)`), not for time.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self, assert_never

from support.upstream_script import (
    AwaitClose,
    Fin,
    FinLater,
    Pause,
    Pieces,
    Repeat,
    Reset,
    Response,
    Send,
    Stall,
    StartReading,
    Step,
    StopReading,
)

REASONABLE_S = 20.0
"""How long a test waits for an event, on a busy machine."""
SEND_BUFFER_BYTES = 64 * 1024
"""Small, so that a peer that does not read stops the sender early."""


@dataclass(slots=True, kw_only=True)
class Request:
    """A request, how many bytes of its response the kernel has accepted, and when the last step of the
    response was done.
    """

    connection: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    received_at: float
    bytes_sent: int = 0
    completed_at: float | None = None


@dataclass(slots=True, kw_only=True)
class Connection:
    """A connection. `closed_at` is when the peer's FIN or RST arrived, or when the script closed it.

    `resumed`: the TLS handshake resumed an earlier session.
    """

    accepted_at: float
    closed_at: float | None = None
    bytes_received: int = 0
    resumed: bool = False
    requests: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class RequestLog:
    connections: list[Connection] = field(default_factory=list)

    @property
    def requests(self) -> list[Request]:
        """Every request, in the order of arrival."""
        every = [request for connection in self.connections for request in connection.requests]
        return sorted(every, key=lambda request: request.received_at)

    @property
    def still_open(self) -> list[int]:
        return [number for number, one in enumerate(self.connections) if one.closed_at is None]


Script = Callable[[Request], Response]


def always(response: Response) -> Script:
    return lambda _request: response


def in_turn(*responses: Response) -> Script:
    """The first request gets the first response and so on; the last response repeats."""
    left = list(responses)
    return lambda _request: left.pop(0) if len(left) > 1 else left[0]


class ScriptedUpstream:
    """Serves a script while its context is open; see the top of the file.

    Args:
        script: returns the response to each request.
        on_connect: steps run on every connection before a request is read.
        tls: what to serve TLS with.
        scheme: of `base_url`; `https` without `tls` is a server that never completes a handshake.
        host: of `base_url`; a name that leads to the loopback, for certificates.
    """

    def __init__(
        self,
        script: Script,
        *,
        on_connect: Response = (),
        tls: ssl.SSLContext | None = None,
        scheme: str = "",
        host: str = "127.0.0.1",
    ) -> None:
        self.script = script
        self.on_connect = on_connect
        self.request_log = RequestLog()
        self.base_url = ""
        self._tls = tls
        self._scheme = scheme or ("https" if tls else "http")
        self._host = host
        self._open: set[_Peer] = set()
        self._changed = asyncio.Event()
        self._failures: list[Exception] = []

    async def __aenter__(self) -> Self:
        await self._listen(0)
        return self

    async def change_tls(self, tls: ssl.SSLContext) -> None:
        """Act as another server at the same port, without the earlier connections."""
        self._server.close()
        for peer in list(self._open):
            peer.abort()
        self._tls = tls
        await self._listen(self.port)

    async def _listen(self, port: int) -> None:
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.port: int = listener.getsockname()[1]
        self.base_url = f"{self._scheme}://{self._host}:{self.port}/v1"
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), sock=listener, ssl=self._tls)

    async def __aexit__(self, *_exception: object) -> None:
        self._server.close()
        for peer in list(self._open):
            peer.abort()
        await self.until(lambda _log: not self._open)
        if self._failures:
            raise ExceptionGroup("the script failed", self._failures)

    async def until(self, reached: Callable[[RequestLog], object], *, within_s: float = REASONABLE_S) -> None:
        """Wait until `reached(request_log)` is true. Raises TimeoutError if it does not become true."""
        async with asyncio.timeout(within_s):
            while not reached(self.request_log):
                self._changed.clear()
                await self._changed.wait()

    async def received(self, requests: int = 1) -> None:
        """Wait until this many requests have arrived in total."""
        await self.until(lambda log: len(log.requests) >= requests)

    async def accepted(self, connections: int = 1) -> None:
        """Wait until this many connections were accepted in total."""
        await self.until(lambda log: len(log.connections) >= connections)

    async def closed(self, connection: int, *, within_s: float = REASONABLE_S) -> float:
        """Wait until the connection with this number (from 0) is closed; returns when that was."""
        await self.until(
            lambda log: (
                len(log.connections) > connection and log.connections[connection].closed_at is not None
            ),
            within_s=within_s,
        )
        closed_at = self.request_log.connections[connection].closed_at
        assert closed_at is not None
        return closed_at

    def notify(self) -> None:
        """Wake everything that waits for a change of the request log."""
        self._changed.set()

    def ended(self, serving: asyncio.Task[None]) -> None:
        """Keep an exception of a script; it is raised when the context is left."""
        if not serving.cancelled() and isinstance(failure := serving.exception(), Exception):
            self._failures.append(failure)
            for peer in self._open:
                peer.abort()


class _Peer(asyncio.Protocol):
    """One connection. Reads at all times, so that a close is seen at once; runs one response at a time."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._record = Connection(accepted_at=time.monotonic())
        self._number = -1
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._peer_closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._transport.set_write_buffer_limits(high=0)
        secured: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._record.resumed = bool(secured and secured.session_reused)
        log = self._upstream.request_log
        self._number = len(log.connections)
        log.connections.append(self._record)
        self._upstream._open.add(self)
        self._upstream.notify()
        self._serving = asyncio.get_running_loop().create_task(self._serve())
        self._serving.add_done_callback(self._upstream.ended)

    def data_received(self, data: bytes) -> None:
        self._record.bytes_received += len(data)
        self._received += data
        self._arrived.set()
        self._upstream.notify()

    def eof_received(self) -> bool:
        self._record_close()
        # A half-open connection continues; TLS does not support that.
        return self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._record_close()
        self._serving.cancel()
        self._may_write.set()
        self._upstream._open.discard(self)
        self._upstream.notify()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def abort(self) -> None:
        self._transport.abort()

    def _record_close(self) -> None:
        if self._record.closed_at is None:
            self._record.closed_at = time.monotonic()
        self._peer_closed.set()
        self._arrived.set()
        self._upstream.notify()

    async def _serve(self) -> None:
        for step in self._upstream.on_connect:
            await self._run(step, None)
        while (request := await self._next_request()) is not None:
            self._record.requests.append(request)
            self._upstream.notify()
            for step in self._upstream.script(request):
                await self._run(step, request)
            request.completed_at = time.monotonic()
        self._transport.close()

    async def _next_request(self) -> Request | None:
        while (request := self._parse()) is None:
            if self._peer_closed.is_set():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return request

    def _parse(self) -> Request | None:
        top, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = top.decode("latin-1").split("\r\n")
        method, path, _version = first.split(" ")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return None
        self._received = bytearray(rest[length:])
        return Request(
            connection=self._number,
            method=method,
            path=path,
            headers=headers,
            body=rest[:length],
            received_at=time.monotonic(),
        )

    async def _run(self, step: Step, request: Request | None) -> None:  # noqa: C901, PLR0912  one arm for each step
        match step:
            case Send(data):
                await self._write(data, request)
            case Pieces(data, piece_bytes):
                for start in range(0, len(data), piece_bytes):
                    await self._write(data[start : start + piece_bytes], request)
                    await asyncio.sleep(0)
            case Repeat(data, times):
                for _ in range(times):
                    await self._write(data, request)
            case Pause(asyncio.Event() as event):
                await event.wait()
            case Pause(float() | int() as seconds):
                await asyncio.sleep(seconds)
            case Fin():
                self._transport.close()
                await asyncio.Event().wait()
            case FinLater(after_s):
                asyncio.get_running_loop().call_later(after_s, self._transport.close)
            case Reset():
                self._reset()
                await asyncio.Event().wait()
            case AwaitClose():
                await self._peer_closed.wait()
            case Stall():
                await asyncio.Event().wait()
            case StopReading():
                self._transport.pause_reading()
            case StartReading():
                self._transport.resume_reading()
            case _:
                assert_never(step)

    async def _write(self, data: bytes, request: Request | None) -> None:
        if self._transport.is_closing():
            await asyncio.Event().wait()  # until `connection_lost` ends the script
        self._transport.write(data)
        # Over TLS, Python 3.13 pauses a writer whose bytes are gone already, and does not resume it.
        if self._transport.get_write_buffer_size():
            await self._may_write.wait()
        if request is not None:
            request.bytes_sent += len(data)
            self._upstream.notify()

    def _reset(self) -> None:
        with contextlib.suppress(OSError):
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
