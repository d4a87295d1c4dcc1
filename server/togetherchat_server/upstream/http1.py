"""One HTTP/1.1 client connection: one request at a time, and its response as it arrives.

Owns the socket: TLS, writing requests, the bound on buffered bytes, and waiting. What the bytes mean
is decided by `http1_exchange`, whose states are also those of this connection. Knows no pool and no
host name, and no time except when it was used.

A connection is always aborted, never shut down gracefully: a close that waits for unsent bytes or for
TLS's close_notify keeps the socket for half a minute. Unread bytes stay in the kernel: beyond
`BUFFER_BYTES_MAX` nothing is read until the buffer is consumed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast, final

from togetherchat_server.upstream.http1_exchange import ExchangeState, Headers, Http1Exchange

BUFFER_BYTES_MAX: Final = 128 * 1024
"""The memory that a stream costs here if nothing reads it."""
READ_NOW: Final = "_read_ready"
"""The method of asyncio's transports that reads the socket once, paused or not. It is not public: without
it, a deferred read resumes and pauses the socket, which takes a tenth of the CPU time of a thousand streams.
"""
WRITE_BYTES: Final = 256 * 1024
"""A larger body is sent in pieces, and sending stops once the response head has arrived."""


@final
class Http1Connection(asyncio.Protocol):
    """The protocol object of one connection, created by `loop.create_connection`."""

    def __init__(self, *, now_s: Callable[[], float]) -> None:
        self.created_s: Final = now_s()
        self.idle_since_s = self.created_s
        self.on_lost: Callable[[Http1Connection], None] | None = None
        """Called once, when the connection has ended."""
        self._now_s = now_s
        self._exchange = Http1Exchange(now_s=now_s)
        self._transport: asyncio.Transport | None = None
        self._socket: asyncio.Transport | None = None
        """The transport of the socket itself, below TLS. A pause of TLS's own transport reads on."""
        self._read_now: Callable[[], None] | None = None
        self._read_paused = False
        self._read_deferred = False
        self._read_once = False
        """Whether the socket is paused again as soon as it was read."""
        self._write_paused = False
        self._waiter: asyncio.Future[None] | None = None

    # Called by the pool.

    def adopt(self, transport: asyncio.Transport, socket_transport: asyncio.Transport) -> None:
        """Take over a connection that an egress proxy has opened.

        Args:
            transport: what requests are written to.
            socket_transport: the transport of the socket; another one if the proxy is reached over TLS.
        """
        self.connection_made(socket_transport)
        self._transport = transport
        transport.set_protocol(self)

    async def start_tls(self, tls: ssl.SSLContext, host: str) -> None:
        """Upgrade the connection to TLS.

        `loop.start_tls` leaves the socket's own transport in our hands: `create_connection` loses
        it when it is cancelled in the same iteration of the loop (CPython 3.11).

        Raises:
            OSError: the handshake failed; `ssl.SSLError` if the peer does not speak TLS or its
                certificate is not trusted.
        """
        tcp = self._transport
        assert tcp is not None  # noqa: S101  asyncio calls `connection_made` before it returns the protocol
        try:
            self._transport = await asyncio.get_running_loop().start_tls(tcp, self, tls, server_hostname=host)
        except BaseException:
            tcp.abort()
            raise

    async def send_request(self, head: bytes, body: bytes) -> tuple[int, Headers]:
        """Send a request, and return the status and the headers of its response.

        Closes the connection if the request fails or is cancelled.

        Raises:
            ServiceError: UPSTREAM_RESET, the connection ended before (`StaleConnectionError` if the
                request can be sent again); UPSTREAM_TLS_FAILED; UPSTREAM_MALFORMED_RESPONSE, the
                response is not HTTP or exceeds a bound.
        """
        exchange = self._exchange
        exchange.begin()
        try:
            if len(body) <= WRITE_BYTES:
                self._write(head + body)
            else:
                await self._write_large(head, body)
            exchange.request_sent()
            while exchange.state is ExchangeState.HEADERS:
                await self._change()
        except BaseException:
            self.abort()
            raise
        if exchange.failure is not None and not exchange.status:
            raise exchange.failure
        return exchange.status, exchange.headers

    async def read(self) -> bytes:
        """Return all body bytes that have arrived since the last read, at least one; `b""` at the end.

        Raises:
            ServiceError: UPSTREAM_TRUNCATED, the body is incomplete.
        """
        exchange = self._exchange
        self._read_once = self._read_deferred
        while exchange.state is ExchangeState.BODY and (self._read_deferred or not exchange.buffered_bytes):
            if not self._read_deferred:
                self._resume()
            await self._change()
        if exchange.failure is not None and not exchange.buffered_bytes:
            raise exchange.failure
        return exchange.take()

    def defer_read(self) -> bool:
        """Leave what arrives in the kernel, and let the next `read` wait until `resume_read`.

        Returns false, and does nothing, if the response has ended. From then on the socket is paused
        whenever nothing waits for its bytes: each read of the socket would take a turn of the loop. The
        end of the connection is noticed after `resume_read`.
        """
        if self._exchange.state is not ExchangeState.BODY:
            return False
        self._read_deferred = True
        self._pause()
        return True

    def resume_read(self) -> None:
        """End the deferral of a read, if there is one."""
        if self._read_deferred:
            self._read_deferred = False
            exchange = self._exchange
            if self._read_now is not None and self._read_paused and not exchange.buffered_bytes:
                self._read_now()
            if exchange.buffered_bytes or exchange.state is not ExchangeState.BODY:
                self._wake()
            else:
                self._resume()

    def release(self) -> bool:
        """End the request. Returns whether the connection can be reused; if not, closes it."""
        if not self._exchange.release():
            self.abort()
            return False
        self._read_deferred = self._read_once = False
        self._resume()
        self.idle_since_s = self._now_s()
        return True

    def abort(self) -> None:
        """Close at once and discard unsent bytes."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        transport = self._transport
        return (
            self._exchange.state is not ExchangeState.CLOSED
            and transport is not None
            and not transport.is_closing()
        )

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream's protocol gets a stream; uvloop's is not a subclass of asyncio's.
        self._transport = self._socket = cast("asyncio.Transport", transport)
        self._read_now = getattr(transport, READ_NOW, None)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        exchange.feed(data)
        if exchange.state is ExchangeState.CLOSED:
            self.abort()
        elif exchange.state is ExchangeState.BODY and (
            self._read_once or exchange.buffered_bytes > BUFFER_BYTES_MAX
        ):
            self._pause()
        self._wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        if self.on_lost is not None:
            self.on_lost(self)
            self.on_lost = None

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake()

    # Internals.

    def _write(self, data: bytes) -> None:
        if self._transport is not None and self._exchange.state is ExchangeState.SENDING:
            self._transport.write(data)

    async def _write_large(self, head: bytes, body: bytes) -> None:
        """Write in pieces, each after the previous one was sent, until the response head arrives."""
        self._write(head)
        view = memoryview(body)
        for start in range(0, len(body), WRITE_BYTES):
            while self._write_paused and self._exchange.state is ExchangeState.SENDING:
                await self._change()
            self._write(bytes(view[start : start + WRITE_BYTES]))

    def _pause(self) -> None:
        if not self._read_paused and self._socket is not None:
            self._read_paused = True
            self._socket.pause_reading()

    def _resume(self) -> None:
        if self._read_paused and self._socket is not None:
            self._read_paused = False
            self._socket.resume_reading()

    def _end(self, cause: Exception | None) -> None:
        self._exchange.end(cause)
        self.abort()
        self._wake()

    def _change(self) -> "asyncio.Future[None]":
        """Return a future that is done after the next change. Not a coroutine: it adds no frame to a read."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
