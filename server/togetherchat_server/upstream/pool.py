"""HTTP/1.1 connection pool, as an `httpx.AsyncBaseTransport`.

Owns the pool and writing request heads; `dialers` opens connections. Uses httpx's types, but not its
exceptions: every failure is a `ServiceError`. Knows no keys and no retry policy. The only timeout here
is the one for connecting.

Why not httpx's own transport: cancelled requests cost it pool slots for good, and its CPU per request
grows with the number of open connections. Why not aiohttp's client, which was used at first: half of
its CPU per request went into features that are never used here (cookies, redirects, sessions, its
own types), and seven of its behaviours needed workarounds. `bench/transports.py` measures all three.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, final

import httpx

from togetherchat_server.config.proxy import Proxy
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.upstream import proxy_connect, transport_errors
from togetherchat_server.upstream.dialers import Forwarding, Origin, TlsContexts, dialer
from togetherchat_server.upstream.http1 import Http1Connection
from togetherchat_server.upstream.limits import UpstreamLimits
from togetherchat_server.upstream.proxy_connect import PROXY_AUTHENTICATION_REQUIRED
from togetherchat_server.upstream.resolver import Resolve, Resolver
from togetherchat_server.upstream.transport_errors import StaleConnectionError

CLOSE_ITERATIONS_MAX: Final = 8
ON_SEND: Final = "togetherchat_on_send"
"""The extension of an `httpx.Request` that is called before the first byte of the request is sent."""
PORTS: Final = {"http": 80, "https": 443}


@final
class ConnectionPool(httpx.AsyncBaseTransport):
    """Reuses connections. Does not compress, follow redirects or keep cookies.

    A request beyond `connections_max` is rejected at once, as OVERLOADED: calls are queued by
    admission control, and a second queue would hide how long a call has waited.

    Args:
        limits: bounds on connections.
        tls: returns the TLS context, with the trusted authorities.
        proxy: the egress proxy through which every origin is reached.
        resolve: resolves host names; the system's resolver if None.
        now_s: a monotonic clock.
    """

    def __init__(
        self,
        limits: UpstreamLimits,
        *,
        tls: TlsContexts,
        proxy: Proxy | None = None,
        resolve: Resolve | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._dialer = dialer(proxy, tls, Resolver(resolve, now_s=now_s), now_s=now_s)
        self._now_s = now_s
        self._in_flight = 0
        self._opened = 0
        self._closed = False
        self._connections: set[Http1Connection] = set()
        self._idle: dict[Origin, list[Http1Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Requests that have begun and whose response is not closed."""
        return self._in_flight

    @property
    def opened(self) -> int:
        """The number of connections opened since the start."""
        return self._opened

    def connections(self) -> tuple[int, int]:
        """Return the number of active and of idle connections."""
        idle = sum(map(len, self._idle.values()))
        return len(self._connections) - idle, idle

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._closed:
            raise transport_errors.error(Reason.UPSTREAM_CONNECT_FAILED)
        if self._in_flight >= self._limits.connections_max:
            raise transport_errors.error(Reason.OVERLOADED)
        origin, body = _origin(request.url), _body(request)
        forwarding = self._dialer.forwarding(request.url.scheme)
        head = _head(request, len(body), forwarding)
        self._in_flight += 1
        try:
            connection = self._pop_idle(origin) or await self._connect(origin)
            if ON_SEND in request.extensions:
                request.extensions[ON_SEND]()
            try:
                status, headers = await connection.send_request(head, body)
            except StaleConnectionError:
                # Not another idle connection: if one has expired, others may have too.
                connection = await self._connect(origin)
                status, headers = await connection.send_request(head, body)
        except BaseException:
            self._in_flight -= 1
            raise
        if forwarding is not None and status == PROXY_AUTHENTICATION_REQUIRED:
            self._release(connection, origin)
            raise proxy_connect.failed(proxy_connect.REJECTS_CREDENTIALS)
        stream = ResponseBody(connection, on_close=lambda: self._release(connection, origin))
        return httpx.Response(status, headers=headers, stream=stream)

    async def aclose(self) -> None:
        """Close every connection, active ones too."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._connections):
            connection.abort()
        for _ in range(CLOSE_ITERATIONS_MAX):  # of the event loop, in which asyncio closes the sockets
            if not self._connections:
                break
            await asyncio.sleep(0)

    def _pop_idle(self, origin: Origin) -> Http1Connection | None:
        """Return the most recently used idle connection that may be used again."""
        idle = self._idle.get(origin, [])
        now_s = self._now_s()
        while idle:
            connection = idle.pop()
            young = now_s - connection.created_s <= self._limits.max_connection_age_s
            fresh = now_s - connection.idle_since_s <= self._limits.keepalive_s
            if connection.is_open and young and fresh:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin) -> Http1Connection:
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                connection = await self._dialer.dial(origin)
        except TimeoutError as exc:
            raise transport_errors.error(Reason.UPSTREAM_CONNECT_TIMEOUT) from exc
        except OSError as exc:
            raise transport_errors.before_response(exc, Reason.UPSTREAM_CONNECT_FAILED) from exc
        connection.on_lost = self._forget
        self._connections.add(connection)
        self._opened += 1
        if self._closed:
            connection.abort()
        return connection

    def _release(self, connection: Http1Connection, origin: Origin) -> None:
        self._in_flight -= 1
        if connection.release() and not self._closed:
            self._idle.setdefault(origin, []).append(connection)
            if self._sweep is None:
                loop = asyncio.get_running_loop()
                self._sweep = loop.call_later(self._limits.keepalive_s, self._close_expired)

    def _close_expired(self) -> None:
        """Close connections that have been idle too long; run again while any is idle."""
        now_s = self._now_s()
        for idle in self._idle.values():
            for connection in idle:
                if now_s - connection.idle_since_s >= self._limits.keepalive_s:
                    connection.abort()
        self._sweep = None
        if any(self._idle.values()):
            delay_s = self._limits.keepalive_s / 4
            self._sweep = asyncio.get_running_loop().call_later(delay_s, self._close_expired)

    def _forget(self, connection: Http1Connection) -> None:
        self._connections.discard(connection)
        for idle in self._idle.values():
            if connection in idle:
                idle.remove(connection)


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in PORTS:
        raise transport_errors.error(Reason.INTERNAL_ERROR)
    return url.scheme, url.host, url.port or PORTS[url.scheme]


def _body(request: httpx.Request) -> bytes:
    """Return the request's body. `httpx.Request.aread` would store it a second time."""
    if not isinstance(request.stream, httpx.ByteStream):
        raise TypeError("the body of a request must be bytes")
    return b"".join(request.stream)


def _head(request: httpx.Request, body_bytes: int, forwarding: Forwarding | None) -> bytes:
    """Return the request line and the headers. A proxy that forwards the request reads the whole URL.

    Raises:
        ServiceError: INTERNAL_ERROR, a header contains a character that would end its line.
    """
    url = request.url
    target = url.raw_path
    if forwarding is not None:
        target = url.raw_scheme + b"://" + url.netloc + target
    lines = [request.method.encode("ascii") + b" " + target + b" HTTP/1.1", b"Host: " + url.netloc]
    lines += [name + b": " + value for name, value in (*request.headers.raw, *(forwarding or ()))]
    if body_bytes:
        lines.append(b"Content-Length: %d" % body_bytes)
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise transport_errors.error(Reason.INTERNAL_ERROR)
    return head + b"\r\n\r\n"


@final
class ResponseBody(httpx.AsyncByteStream):
    """A response body. `read` returns what one read of the socket brought, and `b""` at the end."""

    def __init__(self, connection: Http1Connection, *, on_close: Callable[[], None]) -> None:
        self._connection = connection
        self._on_close = on_close
        self._open = True

    def read(self) -> Awaitable[bytes]:
        """Not a coroutine: it adds no frame to the read of a token."""
        if not self._open:  # the connection may have another request by now
            raise RuntimeError("a response is not read after it was closed")
        return self._connection.read()

    def defer_read(self) -> bool:
        """See `Http1Connection.defer_read`."""
        return self._open and self._connection.defer_read()

    def resume_read(self) -> None:
        if self._open:  # the connection may have another request by now
            self._connection.resume_read()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        while data := await self.read():
            yield data

    async def aclose(self) -> None:
        """Return the connection to the pool if the response has ended, else close it. Never waits."""
        if self._open:
            self._open = False
            self._on_close()
