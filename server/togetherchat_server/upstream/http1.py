"""One HTTP/1.1 connection to the upstream: a request at a time, and its answer as it arrives.

Owns the bytes on the wire: how a request is written, how the answer's head and body are read
(llhttp parses, by way of httptools), how much may be waiting here, and whether the connection
may be used again. Knows no pool, no name and no time but when it was used.

The theory. A connection is *asked* and then *answers*; between two requests it *rests*. What an
answer says is believed only as far as HTTP lets it be whole:

- an answer that declares a length or comes in chunks ends where that says; one that declares
  neither ends with the connection, by a FIN and not by a reset;
- bytes that nobody asked for, behind an answer or while it rests, are nobody's: the connection is
  dropped, so that they cannot become the answer to the next request;
- a reused connection that ends as soon as it is used, without one byte, had been given up by
  the upstream before: that request was never looked at (`StaleConnectionError`).

It is never closed politely: a close that waits, for a rest to be sent or for TLS to say goodbye,
keeps the socket for half a minute. What is unread stays in the kernel: beyond
`BUFFER_BYTES_MAX` nothing is read until somebody takes what is there.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast, final

import httptools

BUFFER_BYTES_MAX: Final = 128 * 1024
"""What a stream that nobody reads costs here."""
HEAD_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 256
IDLE_BYTES_MAX: Final = 64 * 1024
"""Of framing without a byte of the body: trailers, extensions of chunks."""
WRITE_BYTES: Final = 256 * 1024
"""A larger body is sent in pieces, and no further once the answer is there."""
KEEPALIVE_RACE_S: Final = 1.0
"""How soon a reused connection must end for its request to be sent again.

A keep-alive that ran out shows within one round trip. What takes longer may be an upstream
that died over the request, and the tokens it had made are paid for.
"""

_INFORMATIONAL: Final = range(100, 200)
_WITHOUT_BODY: Final = frozenset({204, 304})
_SWITCHING: Final = 101

Headers = list[tuple[bytes, bytes]]


class BrokenConnectionError(Exception):
    """The connection ended before the answer did."""


class StaleConnectionError(BrokenConnectionError):
    """It had been used before, and ended as soon as it was used again, without a byte."""


class ProtocolError(Exception):
    """What came is no answer in HTTP, or one beyond all bounds. Has no text: it would quote the answer."""


@final
class Http1Connection(asyncio.Protocol):
    """Made by `loop.create_connection`."""

    def __init__(self, *, now_s: Callable[[], float]) -> None:
        self.status = 0
        self.headers: Headers = []
        self.made_s: Final = now_s()
        self.rested_s = self.made_s
        self.on_lost: Callable[[Http1Connection], None] | None = None
        """Called once, when the connection is gone."""
        self._now_s = now_s
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        # An answer that is paid for is not lost to a control character in one of its headers. Neither
        # CR nor LF can hide in one all the same.
        self._parser.set_dangerous_leniencies(lenient_headers=True)
        self._asked_s = 0.0
        self._requests = 0
        self._asked = False
        self._byte_seen = False
        self._head_bytes = 0
        self._head_done = False
        self._ends_with_connection = False
        self._complete = False
        self._reusable = False
        self._paused = False
        self._full = False
        self._idle_bytes = 0
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._failure: Exception | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    # What is asked of it.

    async def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Speak TLS from here on.

        By `start_tls`, which leaves the socket's own transport in our hands: `create_connection`
        loses it where it is cancelled in the same turn of the loop (CPython 3.11).

        Raises:
            OSError: the handshake failed; `ssl.SSLError` where it was no TLS or not trusted.
        """
        plain = self._transport
        assert plain is not None  # noqa: S101  asyncio has told of the connection before it is handed out
        try:
            self._transport = await asyncio.get_running_loop().start_tls(
                plain, self, tls, server_hostname=host
            )
        except BaseException:
            plain.abort()
            raise

    async def ask(self, head: bytes, body: bytes) -> None:
        """Send a request, and wait for the head of its answer: `status` and `headers`.

        Raises:
            BrokenConnectionError: it ended before.
            ProtocolError: the answer is none.
        """
        self._begin()
        if len(body) <= WRITE_BYTES:
            self._write(head + body)
        else:
            await self._write_large(head, body)
        while not self._head_done:
            if self._failure is not None:
                raise self._failure
            await self._news()

    async def read(self) -> bytes:
        """All of the body that has arrived since, at least one byte; `b""` at its end.

        Raises:
            BrokenConnectionError, ProtocolError: the body is not whole.
        """
        while not self._pieces:
            if self._complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._news()
        pieces, self._pieces, self._buffered = self._pieces, [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def rest(self) -> bool:
        """End the use of it: whether it can be used again. It is closed where it cannot."""
        if not (self._complete and self._reusable and not self._pieces) or self._ended or self._paused:
            self.abort()
            return False
        self._asked = False
        self.rested_s = self._now_s()
        return True

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        return not self._ended and self._transport is not None and not self._transport.is_closing()

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream's protocol gets a stream; uvloop's is no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._asked or self._complete:  # nobody's
            self._reusable = False
            self.abort()
            return
        self._byte_seen = True
        before = self._buffered
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            if not self._complete:
                self._fail(ProtocolError())
            return
        self._bound(len(data), progress=self._buffered > before or self._complete)
        self._wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        if self.on_lost is not None:
            self.on_lost(self)
            self.on_lost = None

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    # What the parser finds. It raises what these raise only after it has printed it: so they note.

    def on_message_begin(self) -> None:
        if self._complete:  # a second answer behind the first
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
            self._pieces.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._head_done and not self._complete:
            self._complete = True
            self._reusable = self._parser.should_keep_alive() and not self._ends_with_connection

    # The rest.

    def _begin(self) -> None:
        self._asked = True
        self._asked_s = self._now_s()
        self._requests += 1
        self.status, self.headers = 0, []
        self._byte_seen = self._head_done = self._complete = self._reusable = False
        self._head_bytes = self._idle_bytes = 0
        if self._ended and self._failure is None:
            self._failure = self._broken(None)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._ended:
            self._transport.write(data)

    async def _write_large(self, head: bytes, body: bytes) -> None:
        """In pieces, each when the one before has left; no further once the answer is there."""
        self._write(head)
        view = memoryview(body)
        for start in range(0, len(body), WRITE_BYTES):
            self._write(bytes(view[start : start + WRITE_BYTES]))
            while self._full and not self._head_done and self._failure is None:
                await self._news()
            if self._head_done or self._failure is not None:
                return

    def _is_chunked(self) -> bool:
        codings = [value for name, value in self.headers if name.lower() == b"transfer-encoding"]
        return bool(codings) and codings[-1].strip().lower().endswith(b"chunked")

    def _bound(self, received: int, *, progress: bool) -> None:
        """Stop what has no end, and what comes faster than it is taken."""
        if not self._head_done:
            self._head_bytes += received
            if self._head_bytes > HEAD_BYTES_MAX:
                self._fail(ProtocolError())
        elif not progress:
            self._idle_bytes += received
            if self._idle_bytes > IDLE_BYTES_MAX:
                self._fail(ProtocolError())
        else:
            self._idle_bytes = 0
        if len(self.headers) > HEADERS_MAX:
            self._fail(ProtocolError())
        if self._buffered > BUFFER_BYTES_MAX and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _end(self, cause: Exception | None) -> None:
        """The connection ended: by a FIN where there is no cause."""
        if self._ended:
            return
        self._ended = True
        if self._asked and not self._complete:
            if cause is None and self._head_done and self._ends_with_connection:
                self._complete = True
            else:
                self._failure = self._failure or self._broken(cause)
        self._reusable = False
        self.abort()
        self._wake()

    def _broken(self, cause: Exception | None) -> BrokenConnectionError:
        at_once = self._now_s() - self._asked_s <= KEEPALIVE_RACE_S
        ran_out = self._requests > 1 and not self._byte_seen and at_once
        broke = StaleConnectionError() if ran_out else BrokenConnectionError()
        broke.__cause__ = cause if isinstance(cause, OSError) else None
        return broke

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._head_done = self._head_done and len(self.headers) <= HEADERS_MAX
        self.abort()
        self._wake()

    async def _news(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
