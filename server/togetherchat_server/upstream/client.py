"""HTTP client for the provider: sends requests with a key, and bounds what it reads of their responses.

Owns the request headers and the bounds on response bodies. Does not parse JSON or events, and does
not judge statuses: a response with status 500 is returned. Never sends a request twice (but see
`pool`, for a connection that had expired) and never follows a redirect. The only timeout here is the
one for connecting: callers of this module use `asyncio.timeout`. A cancel closes the connection at
once, in any phase.

Responses are requested uncompressed. One in gzip is unpacked within bounds (see `gzip_body`), and one in
any other coding is rejected unread.

The client calls an `httpx.AsyncBaseTransport` itself, without `httpx.AsyncClient`, which doubled the
CPU of a request (`bench/transports.py`), and prepares once what every request has in common.
"""

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self, final

import httpx

from togetherchat_server.config import ProviderConfig
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.definitions import Key
from togetherchat_server.upstream import gzip_body, transport_errors
from togetherchat_server.upstream.limits import UpstreamLimits
from togetherchat_server.upstream.pool import ON_SEND, ConnectionPool, ResponseBody
from togetherchat_server.upstream.tls import tls_contexts

PATHS_MAX: Final = 16

RequestHeaders = Iterable[tuple[bytes, bytes]]
"""Further headers of one request."""

_TRACEPARENT: Final = re.compile(r"[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}")
_READ_ENCODINGS: Final = gzip_body.CODINGS | {"", "identity"}
_JSON: Final = (b"Accept", b"application/json")
_EVENTS: Final = (b"Accept", b"text/event-stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamResponse:
    """A complete response. Header names are lower case; repeated headers are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@final
class UpstreamStream:
    """A response whose status and headers are known and whose body is read once, as it arrives.

    The caller of `UpstreamClient.open_stream` closes it.
    """

    def __init__(self, response: httpx.Response, *, bytes_max: int, limits: UpstreamLimits) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = _lower_case(response.headers.raw)
        self._body = _body(response)
        self._read = _reader(self._body)
        if _encoding(self) in gzip_body.CODINGS:
            self._read = gzip_body.GzipBody(self._read).read
        self._bytes_left = bytes_max
        self._limits = limits

    async def read(self) -> bytes:
        """Return all bytes that have arrived since the last read, at least one; `b""` at the end.

        Raises:
            ServiceError: UPSTREAM_TRUNCATED, UPSTREAM_MALFORMED_RESPONSE, or UPSTREAM_TOO_LARGE
                if the body exceeds the bound of a stream.
        """
        data = await self._read()
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise transport_errors.error(Reason.UPSTREAM_TOO_LARGE)
        return data

    async def peek(self) -> bytes:
        """Return what the next `read` will return. Raises as `read` does."""
        data, read = await self._read(), self._read

        async def again() -> bytes:
            self._read = read
            return data

        self._read = again
        return data

    def defer_read(self) -> bool:
        """Let the next read wait until `resume_read`; return false if the body has ended.

        Bytes that arrive in between stay in the kernel, and the read returns all of them at once.
        """
        return isinstance(self._body, ResponseBody) and self._body.defer_read()

    def resume_read(self) -> None:
        """End the deferral of a read, if there is one and the stream is open."""
        if isinstance(self._body, ResponseBody):
            self._body.resume_read()

    async def aclose(self) -> None:
        """Return the connection to the pool if the response has ended, else close it. Never waits."""
        await self._body.aclose()

    async def read_all(self) -> bytes:
        """Return the rest of the body.

        If the status is an error, the status matters more than the text: bytes beyond
        `max_error_body_bytes`, or lost because the connection broke, are left out.

        Raises:
            ServiceError: as `read` does, if the status is below 400.
        """
        chunks: list[bytes] = []
        failed = self.status >= httpx.codes.BAD_REQUEST
        left = self._limits.max_error_body_bytes if failed else self._limits.max_response_bytes
        try:
            while chunk := await self.read():
                chunks.append(chunk[:left])
                left -= len(chunk)
                if left < 0:
                    raise transport_errors.error(Reason.UPSTREAM_TOO_LARGE)
        except ServiceError:
            if not failed:
                raise
        return b"".join(chunks)

    async def finish(self, within_s: float) -> None:
        """Wait briefly for the end of the body, so that the connection can be reused.

        Call this after the provider's own end mark, when only HTTP's is missing: leaving a stream
        before its end costs the next call a new connection. Never raises a `ServiceError`.
        """
        with suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(within_s):
                while await self.read():
                    pass


@final
class UpstreamClient:
    """Sends requests to one upstream.

    Every failure is a `ServiceError` whose message is one of a fixed set. If no byte of the request
    was sent: UPSTREAM_DNS_FAILED, UPSTREAM_CONNECT_FAILED, UPSTREAM_CONNECT_TIMEOUT,
    UPSTREAM_TLS_FAILED, OVERLOADED (`connections_max`). If the provider may have worked on it:
    UPSTREAM_RESET, UPSTREAM_TRUNCATED, UPSTREAM_MALFORMED_RESPONSE, UPSTREAM_TOO_LARGE.

    Args:
        transport: sends one request: a `ConnectionPool`, or a transport that also raises `ServiceError`.
        base_url: with its version, such as `https://api.together.ai/v1`.
        limits: bounds on response bodies.
        user_agent: sent unchanged; the provider's edge rejects well-known default values.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, *, base_url: str, limits: UpstreamLimits, user_agent: str
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._base = base_url.rstrip("/")
        self._headers = (
            (b"User-Agent", user_agent.encode("ascii")),
            (b"Accept-Encoding", b"identity"),
        )

    @property
    def gauges(self) -> Mapping[Key, Callable[[], float]]:
        """Gauges of the connection pool; none for another transport."""
        if not isinstance(self._transport, ConnectionPool):
            return {}
        pool = self._transport
        return {
            (names.UPSTREAM_REQUESTS_IN_FLIGHT,): lambda: pool.in_flight,
            (names.UPSTREAM_CONNECTIONS, "active"): lambda: pool.connections()[0],
            (names.UPSTREAM_CONNECTIONS, "idle"): lambda: pool.connections()[1],
        }

    @property
    def counters(self) -> Mapping[Key, Callable[[], float]]:
        """Counters of the connection pool; none for another transport."""
        if not isinstance(self._transport, ConnectionPool):
            return {}
        pool = self._transport
        return {(names.UPSTREAM_CONNECTIONS_OPENED,): lambda: pool.opened}

    @classmethod
    def connect(cls, config: ProviderConfig, *, limits: UpstreamLimits, user_agent: str) -> Self:
        """Create a client over real connections, which open with the first request."""
        pool = ConnectionPool(limits, tls=tls_contexts(config), proxy=config.proxy)
        return cls(pool, base_url=config.base_url, limits=limits, user_agent=user_agent)

    async def send(  # noqa: PLR0913  the parts of a request, all by keyword
        self,
        method: str,
        path: str,
        *,
        key: Secret | None,
        request_id: str,
        body: bytes | None = None,
        traceparent: str = "",
        tracestate: str = "",
        more_headers: RequestHeaders = (),
        on_send: Callable[[], None] | None = None,
    ) -> UpstreamResponse:
        """Send a request and read the whole response. `path` is relative to the base URL.

        `on_send` is called before the first byte of the request is sent.
        """
        request = self._request(
            method,
            path,
            key,
            request_id,
            body,
            (traceparent, tracestate),
            more_headers=(_JSON, *more_headers),
            on_send=on_send,
        )
        response = await self._transport.handle_async_request(request)
        stream = UpstreamStream(response, bytes_max=self._limits.max_response_bytes, limits=self._limits)
        try:
            _check_encoding(stream)
            content = await stream.read_all()
        finally:
            await stream.aclose()
        return UpstreamResponse(status=stream.status, headers=stream.headers, body=content)

    async def open_stream(  # noqa: PLR0913  as above
        self,
        path: str,
        *,
        key: Secret | None,
        request_id: str,
        body: bytes,
        traceparent: str = "",
        tracestate: str = "",
        more_headers: RequestHeaders = (),
        on_send: Callable[[], None] | None = None,
    ) -> UpstreamStream:
        """POST a request whose response is read as it arrives. The caller closes the stream."""
        request = self._request(
            "POST",
            path,
            key,
            request_id,
            body,
            (traceparent, tracestate),
            more_headers=(_EVENTS, *more_headers),
            on_send=on_send,
        )
        response = await self._transport.handle_async_request(request)
        stream = UpstreamStream(response, bytes_max=self._limits.max_stream_bytes, limits=self._limits)
        try:
            _check_encoding(stream)
        except ServiceError:
            await stream.aclose()
            raise
        return stream

    async def aclose(self) -> None:
        """Close every connection; requests still in flight fail."""
        await self._transport.aclose()

    def _request(  # noqa: PLR0913  as above
        self,
        method: str,
        path: str,
        key: Secret | None,
        request_id: str,
        body: bytes | None,
        trace: tuple[str, str],
        *,
        more_headers: RequestHeaders,
        on_send: Callable[[], None] | None,
    ) -> httpx.Request:
        headers = [*self._headers, *more_headers, (b"x-request-id", request_id.encode("ascii", "replace"))]
        if body is not None:
            headers.append((b"Content-Type", b"application/json"))
        if key is not None:
            headers.append((b"Authorization", b"Bearer " + key.reveal().encode("ascii")))
        traceparent, tracestate = trace
        if _TRACEPARENT.fullmatch(traceparent):
            headers.append((b"traceparent", traceparent.encode("ascii")))
            if tracestate:
                headers.append((b"tracestate", tracestate.encode("ascii")))
        # With `stream` rather than `content`, httpx adds no headers; the pool has to anyway.
        return httpx.Request(
            method,
            _url(f"{self._base}/{path}"),
            headers=headers,
            stream=httpx.ByteStream(body or b""),
            extensions=None if on_send is None else {ON_SEND: on_send},
        )


def _encoding(stream: UpstreamStream) -> str:
    return stream.headers.get("content-encoding", "").strip().lower()


def _check_encoding(stream: UpstreamStream) -> None:
    if _encoding(stream) not in _READ_ENCODINGS:
        raise transport_errors.error(Reason.UPSTREAM_MALFORMED_RESPONSE)


@functools.lru_cache(PATHS_MAX)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)


def _body(response: httpx.Response) -> httpx.AsyncByteStream:
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the transport must return asynchronous responses")
    return response.stream


def _reader(body: httpx.AsyncByteStream) -> Callable[[], Awaitable[bytes]]:
    """Return the function that reads a body; its result is `b""` at the end."""
    if isinstance(body, ResponseBody):
        return body.read
    pieces = aiter(body)
    return lambda: anext(pieces, b"")


def _lower_case(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
