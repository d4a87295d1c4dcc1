"""One HTTP/1.1 client connection: one request at a time, and its response as it arrives.

Owns the bytes on the wire: writing requests, parsing response heads and bodies (llhttp, by way of
httptools), the bound on buffered bytes, and whether the connection may be reused. Knows no pool and
no host name, and no time except when it was used.

The theory. A connection is *idle* until a request is sent, and idle again after the response. A
response counts as complete only where HTTP can prove it:

- a response with a length or in chunks ends where these define; one with neither ends with the
  connection, by a FIN and not by a reset;
- bytes behind a response, or on an idle connection, belong to no request: the connection is closed,
  so that they cannot become the response to the next request;
- a reused connection that ends as soon as it is used, without one byte, had already been closed by
  the upstream, which has not seen the request (`StaleConnectionError`).

A connection is always aborted, never shut down gracefully: a close that waits for unsent bytes or for
TLS's close_notify keeps the socket for half a minute. Unread bytes stay in the kernel: beyond
`BUFFER_BYTES_MAX` nothing is read until the buffer is consumed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast, final

import httptools

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream import transport_errors
from togetherchat_server.upstream.transport_errors import StaleConnectionError

BUFFER_BYTES_MAX: Final = 128 * 1024
"""The memory that a stream costs here if nothing reads it."""
HEAD_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 256
FRAMING_BYTES_MAX: Final = 64 * 1024
"""Bytes of framing without a byte of the body: trailers, extensions of chunks."""
WRITE_BYTES: Final = 256 * 1024
"""A larger body is sent in pieces, and sending stops once the response head has arrived."""
KEEPALIVE_RACE_S: Final = 1.0
"""How soon a reused connection must end for its request to be sent again.

An expired keep-alive shows within one round trip. What takes longer may be an upstream that crashed
while it worked on the request, and the tokens it had generated are billed.
"""

_INFORMATIONAL: Final = range(100, 200)
_WITHOUT_BODY: Final = frozenset({204, 304})
_SWITCHING: Final = 101

Headers = list[tuple[bytes, bytes]]


@final
class Http1Connection(asyncio.Protocol):
    """The protocol object of one connection, created by `loop.create_connection`."""

    def __init__(self, *, now_s: Callable[[], float]) -> None:
        self.status = 0
        self.headers: Headers = []
        self.created_s: Final = now_s()
        self.idle_since_s = self.created_s
        self.on_lost: Callable[[Http1Connection], None] | None = None
        """Called once, when the connection has ended."""
        self._now_s = now_s
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        # A response that is billed is not lost to a control character in one of its headers. Neither
        # CR nor LF can hide in one all the same.
        self._parser.set_dangerous_leniencies(lenient_headers=True)
        self._active = False
        self._active_since_s = 0.0
        self._requests = 0
        self._byte_received = False
        self._head_bytes = 0
        self._head_done = False
        self._ends_with_connection = False
        self._complete = False
        self._reusable = False
        self._read_paused = False
        self._write_paused = False
        self._framing_bytes = 0
        self._body_chunks: list[bytes] = []
        self._buffered = 0
        self._failure: ServiceError | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    # Called by the pool.

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

    async def send_request(self, head: bytes, body: bytes) -> None:
        """Send a request, and wait for the head of its response: `status` and `headers`.

        Closes the connection if the request fails or is cancelled.

        Raises:
            ServiceError: UPSTREAM_RESET, the connection ended before (`StaleConnectionError` if the
                request can be sent again); UPSTREAM_TLS_FAILED; UPSTREAM_MALFORMED_RESPONSE, the
                response is not HTTP or exceeds a bound.
        """
        self._begin_request()
        try:
            if len(body) <= WRITE_BYTES:
                self._write(head + body)
            else:
                await self._write_large(head, body)
            while not self._head_done and self._failure is None:
                await self._wait()
        except BaseException:
            self.abort()
            raise
        if not self._head_done and self._failure is not None:
            raise self._failure

    async def read(self) -> bytes:
        """Return all body bytes that have arrived since the last read, at least one; `b""` at the end.

        Raises:
            ServiceError: UPSTREAM_TRUNCATED, the body is incomplete.
        """
        while not self._body_chunks:
            if self._complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait()
        chunks, self._body_chunks, self._buffered = self._body_chunks, [], 0
        if self._read_paused and self._transport is not None:
            self._read_paused = False
            self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def release(self) -> bool:
        """End the request. Returns whether the connection can be reused; if not, closes it."""
        consumed = self._complete and self._reusable and not self._body_chunks
        if not consumed or self._ended or self._read_paused:
            self.abort()
            return False
        self._active = False
        self.idle_since_s = self._now_s()
        return True

    def abort(self) -> None:
        """Close at once and discard unsent bytes."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        return not self._ended and self._transport is not None and not self._transport.is_closing()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream's protocol gets a stream; uvloop's is not a subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._active or self._complete:  # bytes that belong to no request
            self._reusable = False
            self.abort()
            return
        self._byte_received = True
        before = self._buffered
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            if not self._complete:
                self._fail()
            self._wake()
            return
        self._enforce_bounds(len(data), progress=self._buffered > before or self._complete)
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

    # Called by the parser. It prints an exception raised here before it passes it on, so these
    # methods only record what they see.

    def on_message_begin(self) -> None:
        if self._complete:  # a second response behind the first
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done and len(self.headers) < HEADERS_MAX + 1:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status in _INFORMATIONAL and status != _SWITCHING:
            self.headers = []
            return
        self.status = status
        self._head_done = True
        names = {name.lower() for name, _ in self.headers}
        self._ends_with_connection = not (
            b"content-length" in names or self._is_chunked() or status in _WITHOUT_BODY
        )

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._body_chunks.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._head_done and not self._complete:
            self._complete = True
            self._reusable = self._parser.should_keep_alive() and not self._ends_with_connection

    # Internals.

    def _begin_request(self) -> None:
        self._active = True
        self._active_since_s = self._now_s()
        self._requests += 1
        self.status, self.headers = 0, []
        self._byte_received = self._head_done = self._complete = self._reusable = False
        self._head_bytes = self._framing_bytes = 0
        if self._ended and self._failure is None:
            self._failure = self._connection_error(None)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._ended:
            self._transport.write(data)

    async def _write_large(self, head: bytes, body: bytes) -> None:
        """Write in pieces, each after the previous one was sent, until the response head arrives."""
        self._write(head)
        view = memoryview(body)
        for start in range(0, len(body), WRITE_BYTES):
            self._write(bytes(view[start : start + WRITE_BYTES]))
            while self._write_paused and not self._head_done and self._failure is None:
                await self._wait()
            if self._head_done or self._failure is not None:
                return

    def _is_chunked(self) -> bool:
        codings = [value for name, value in self.headers if name.lower() == b"transfer-encoding"]
        return bool(codings) and codings[-1].strip().lower().endswith(b"chunked")

    def _enforce_bounds(self, received: int, *, progress: bool) -> None:
        """Fail on an endless head or endless framing; pause reading while the buffer is full."""
        if not self._head_done:
            self._head_bytes += received
            if self._head_bytes > HEAD_BYTES_MAX:
                self._fail()
        elif not progress:
            self._framing_bytes += received
            if self._framing_bytes > FRAMING_BYTES_MAX:
                self._fail()
        else:
            self._framing_bytes = 0
        if len(self.headers) > HEADERS_MAX:
            self._fail()
        if self._buffered > BUFFER_BYTES_MAX and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    def _end(self, cause: Exception | None) -> None:
        """Record that the connection ended: by a FIN if there is no cause."""
        if self._ended:
            return
        self._ended = True
        if self._active and not self._complete:
            if cause is None and self._head_done and self._ends_with_connection:
                self._complete = True
            else:
                self._failure = self._failure or self._connection_error(cause)
        self._reusable = False
        self.abort()
        self._wake()

    def _connection_error(self, cause: Exception | None) -> ServiceError:
        ended_early = self._now_s() - self._active_since_s <= KEEPALIVE_RACE_S
        if self._head_done:
            error = transport_errors.error(Reason.UPSTREAM_TRUNCATED)
        elif self._requests > 1 and not self._byte_received and ended_early:
            error = StaleConnectionError()
        else:
            error = transport_errors.before_response(cause, Reason.UPSTREAM_RESET)
        error.__cause__ = cause if isinstance(cause, OSError) else None
        return error

    def _fail(self) -> None:
        """Record that the response is not HTTP, or exceeds a bound."""
        self._head_done = self._head_done and len(self.headers) <= HEADERS_MAX
        reason = Reason.UPSTREAM_TRUNCATED if self._head_done else Reason.UPSTREAM_MALFORMED_RESPONSE
        self._failure = self._failure or transport_errors.error(reason)
        self.abort()
        self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
