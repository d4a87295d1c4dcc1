"""The state of one HTTP/1.1 client connection, as bytes arrive. No I/O.

Parses response heads and bodies (llhttp, by way of httptools), bounds heads and framing, and decides
whether a connection may be reused. `http1` connects it with a socket.

The theory. A connection is in one `ExchangeState`:

    IDLE -> SENDING -> HEADERS -> BODY -> DONE -> IDLE        each of them -> CLOSED

- A request leads from IDLE to SENDING, and to HEADERS when all of it was written.
- A response head leads to BODY. If a head arrives in SENDING, the rest of the request is not sent and
  the connection is not reused: the upstream would take the next request for that rest.
- The end of a response leads to DONE if the connection can be reused, else to CLOSED. A response
  counts as complete only where HTTP can prove it: a response with a length or in chunks ends where
  these define; one with neither ends with the connection, by a FIN and not by a reset.
- In IDLE and DONE, bytes belong to no request. They lead to CLOSED, so that they cannot become the
  response to the next request.
- A connection that ends, or a response that is not HTTP, leads to CLOSED. If the response was not
  complete, there is a `failure` for its reader, after the bytes before it.
- A reused connection that ends as soon as it is used, without one byte, had already been closed by
  the upstream, which has not seen the request (`StaleConnectionError`).
"""

import enum
from collections.abc import Callable
from typing import Final, final

import httptools

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream import transport_errors
from togetherchat_server.upstream.transport_errors import StaleConnectionError

OVERHEAD_BYTES_MAX: Final = 64 * 1024
"""Bytes without progress: of a head, or behind it of trailers and extensions of chunks."""
HEADERS_MAX: Final = 256
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
class ExchangeState(enum.Enum):
    """The state of a connection; see the top of the file."""

    IDLE = enum.auto()
    SENDING = enum.auto()
    HEADERS = enum.auto()
    BODY = enum.auto()
    DONE = enum.auto()
    CLOSED = enum.auto()


_BEFORE_HEAD: Final = (ExchangeState.SENDING, ExchangeState.HEADERS)
_INCOMPLETE: Final = (*_BEFORE_HEAD, ExchangeState.BODY)


@final
class Http1Exchange:
    """One request after the other, each with its response. `status` is 0 before a response head."""

    def __init__(self, *, now_s: Callable[[], float]) -> None:
        self.state = ExchangeState.IDLE
        self.failure: ServiceError | None = None
        self.status = 0
        self.headers: Headers = []
        self.buffered_bytes = 0
        self._now_s = now_s
        self._parser = httptools.HttpResponseParser(self)
        # A response that is billed is not lost to a control character in one of its headers. Neither
        # CR nor LF can hide in one all the same.
        self._parser.set_dangerous_leniencies(lenient_headers=True)
        self._body_chunks: list[bytes] = []
        self._requests = 0
        self._begun_s = 0.0
        self._overhead_bytes = 0
        self._request_complete = False
        self._ends_with_connection = False

    def begin(self) -> None:
        """Begin a request."""
        self.status, self.headers = 0, []
        self._requests += 1
        self._begun_s = self._now_s()
        self._overhead_bytes = 0
        if self.state is ExchangeState.CLOSED:
            self.failure = self.failure or self._broken(None)
        else:
            self.state = ExchangeState.SENDING

    def request_sent(self) -> None:
        """Record that the whole request was written."""
        if self.state is ExchangeState.SENDING:
            self.state = ExchangeState.HEADERS

    def feed(self, data: bytes) -> None:
        """Parse what was received."""
        if self.state not in _INCOMPLETE:
            self._close(None)
            return
        before = self.state, self.buffered_bytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reject_response()
        progress = before != (self.state, self.buffered_bytes)
        self._overhead_bytes = 0 if progress else self._overhead_bytes + len(data)
        if self._overhead_bytes > OVERHEAD_BYTES_MAX:
            self._reject_response()

    def take(self) -> bytes:
        """Return the bytes of the body that have arrived since the last call."""
        chunks, self._body_chunks, self.buffered_bytes = self._body_chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def release(self) -> bool:
        """End the request. Returns whether the connection can be reused."""
        if self.state is not ExchangeState.DONE or self._body_chunks:
            return False
        self.state = ExchangeState.IDLE
        return True

    def end(self, cause: Exception | None) -> None:
        """Record that the connection ended: by a FIN if there is no cause."""
        proven = cause is None and self.state is ExchangeState.BODY and self._ends_with_connection
        self._close(None if proven or self.state not in _INCOMPLETE else self._broken(cause))

    # Called by the parser. It prints an exception raised here before it passes it on, so these
    # methods only record what they see.

    def on_message_begin(self) -> None:
        if self.state is ExchangeState.DONE:  # a second response behind the first
            self._close(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state in _BEFORE_HEAD:
            self.headers.append((name, value))
            if len(self.headers) > HEADERS_MAX:
                self._reject_response()

    def on_headers_complete(self) -> None:
        if self.state not in _BEFORE_HEAD:
            return
        status = self._parser.get_status_code()
        if status in _INFORMATIONAL and status != _SWITCHING:
            self.headers = []
            return
        self.status = status
        self._request_complete = self.state is ExchangeState.HEADERS
        self.state = ExchangeState.BODY
        names = {name.lower() for name, _ in self.headers}
        self._ends_with_connection = not (
            b"content-length" in names or _is_chunked(self.headers) or status in _WITHOUT_BODY
        )

    def on_body(self, body: bytes) -> None:
        if self.state is ExchangeState.BODY:
            self._body_chunks.append(body)
            self.buffered_bytes += len(body)

    def on_message_complete(self) -> None:
        if self.state is not ExchangeState.BODY:
            return
        keep_alive = self._parser.should_keep_alive() and not self._ends_with_connection
        if keep_alive and self._request_complete:
            self.state = ExchangeState.DONE
        else:
            self._close(None)

    # Internals.

    def _reject_response(self) -> None:
        """Close the connection: what it brings is not HTTP, or exceeds a bound."""
        if self.state in _BEFORE_HEAD:
            self._close(transport_errors.error(Reason.UPSTREAM_MALFORMED_RESPONSE))
        elif self.state is ExchangeState.BODY:
            self._close(transport_errors.error(Reason.UPSTREAM_TRUNCATED))
        else:
            self._close(None)

    def _broken(self, cause: Exception | None) -> ServiceError:
        """Return the error of a connection that ended before the response did."""
        ended_early = self._now_s() - self._begun_s <= KEEPALIVE_RACE_S
        if self.status:
            error = transport_errors.error(Reason.UPSTREAM_TRUNCATED)
        elif self._requests > 1 and not self._overhead_bytes and ended_early:
            error = StaleConnectionError()
        else:
            error = transport_errors.before_response(cause, Reason.UPSTREAM_RESET)
        error.__cause__ = cause if isinstance(cause, OSError) else None
        return error

    def _close(self, failure: ServiceError | None) -> None:
        if self.state is not ExchangeState.CLOSED:
            self.state, self.failure = ExchangeState.CLOSED, failure
            del self._parser  # it refers to this object, and only the garbage collector would release both


def _is_chunked(headers: Headers) -> bool:
    codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    return bool(codings) and codings[-1].strip().lower().endswith(b"chunked")
