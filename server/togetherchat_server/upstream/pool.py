"""An `httpx.AsyncBaseTransport` of our own: HTTP/1.1 over pooled connections.

Owns the pool, the making of connections and the words of a request's head. Speaks httpx's types
and raises httpx's exceptions, so that whatever is above it can be tried with
`httpx.MockTransport`. Knows no key, no retry policy, and no time but that of connecting.

Why not httpx's own transport: requests that are cancelled cost it pool slots for good, and its
CPU per request grows with the connections that are open. Why not a client of aiohttp beneath, as
it was at first: half of its CPU per request went into what is never used here (cookies, redirects,
sessions, its own types), and seven of its manners had to be mended from environment.
`bench/transports.py` measures all of them.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Final, Self, final

import httpx

from togetherchat_server.upstream.http1 import (
    BrokenConnectionError,
    Http1Connection,
    ProtocolError,
    StaleConnectionError,
)
from togetherchat_server.upstream.limits import UpstreamLimits
from togetherchat_server.upstream.resolver import Resolve, Resolver

GONE_TURNS: Final = 8
PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int]
"""Scheme, host, port."""


@final
class ConnectionPool(httpx.AsyncBaseTransport):
    """Nothing compressed, no redirect followed, no cookie kept, no proxy asked.

    A request more than `connections_max` is refused at once with `httpx.PoolTimeout`: there is
    a queue above, and two would hide how long a call has waited.

    Args:
        limits: those of connections.
        tls: what to trust.
        resolve: finds addresses, in tests; the system where None.
        now_s: a monotonic clock.
    """

    def __init__(
        self,
        limits: UpstreamLimits,
        *,
        tls: ssl.SSLContext,
        resolve: Resolve | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._tls = tls
        self._addresses = Resolver(resolve, now_s=now_s)
        self._now_s = now_s
        self._in_flight = 0
        self._closed = False
        self._open: set[Http1Connection] = set()
        self._resting: dict[Origin, list[Http1Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Requests that were begun and whose response is not closed."""
        return self._in_flight

    def connections(self) -> tuple[int, int]:
        """How many connections serve a request, and how many wait for one."""
        resting = sum(map(len, self._resting.values()))
        return len(self._open) - resting, resting

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._closed:
            raise httpx.ConnectError("the transport is closed")
        if self._in_flight >= self._limits.connections_max:
            raise httpx.PoolTimeout("every connection is in use")
        self._in_flight += 1
        try:
            connection, origin = await self._ask(request)
        except BaseException:
            self._in_flight -= 1
            raise
        body = _Body(connection, lambda: self._leave(connection, origin))
        return httpx.Response(connection.status, headers=connection.headers, stream=body)

    async def aclose(self) -> None:
        """Close every connection, those in use too."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.abort()
        for _ in range(GONE_TURNS):  # of the loop, in which asyncio lets go of them
            if not self._open:
                break
            await asyncio.sleep(0)

    async def _ask(self, request: httpx.Request) -> tuple[Http1Connection, Origin]:
        origin = _origin(request.url)
        # Not `aread`: it keeps the body a second time.
        body = (
            b"".join(request.stream)
            if isinstance(request.stream, httpx.ByteStream)
            else await request.aread()
        )
        head = _head(request, len(body))
        resting = self._rested(origin)
        if resting is not None:
            try:
                return await _asked(resting, head, body), origin
            except StaleConnectionError:
                pass  # Not from the pool again: where one connection has run out, so may have others.
        return await _asked(await self._connect(origin), head, body), origin

    def _rested(self, origin: Origin) -> Http1Connection | None:
        """The connection that was used last and may be used once more."""
        resting = self._resting.get(origin, [])
        now_s = self._now_s()
        while resting:
            connection = resting.pop()
            young = now_s - connection.made_s <= self._limits.max_connection_age_s
            if connection.is_open and young and now_s - connection.rested_s <= self._limits.keepalive_s:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin) -> Http1Connection:
        scheme, host, port = origin
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                connection = await self._plain(host, port)
                if scheme == "https":
                    await connection.secure(self._tls, host)
        except TimeoutError as exc:
            raise httpx.ConnectTimeout("connecting took too long") from exc
        except OSError as exc:
            raise httpx.ConnectError("no connection could be made") from exc
        connection.on_lost = self._lost
        self._open.add(connection)
        if self._closed:
            connection.abort()
        return connection

    async def _plain(self, host: str, port: int) -> Http1Connection:
        sock = await self._addresses.connect(host, port)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Http1Connection(now_s=self._now_s), sock=sock)
        return connection

    def _leave(self, connection: Http1Connection, origin: Origin) -> None:
        self._in_flight -= 1
        if connection.rest() and not self._closed:
            self._resting.setdefault(origin, []).append(connection)
            if self._sweep is None:
                loop = asyncio.get_running_loop()
                self._sweep = loop.call_later(self._limits.keepalive_s, self._drop_rested)

    def _drop_rested(self) -> None:
        """Close what has rested for too long; look again while something rests."""
        now_s = self._now_s()
        for resting in self._resting.values():
            for connection in resting:
                if now_s - connection.rested_s >= self._limits.keepalive_s:
                    connection.abort()
        self._sweep = None
        if any(self._resting.values()):
            delay_s = self._limits.keepalive_s / 4
            self._sweep = asyncio.get_running_loop().call_later(delay_s, self._drop_rested)

    def _lost(self, connection: Http1Connection) -> None:
        self._open.discard(connection)
        for resting in self._resting.values():
            if connection in resting:
                resting.remove(connection)


async def _asked(connection: Http1Connection, head: bytes, body: bytes) -> Http1Connection:
    try:
        await connection.ask(head, body)
    except ProtocolError:
        connection.abort()
        failure = httpx.RemoteProtocolError("no answer in HTTP")
    except StaleConnectionError:
        raise
    except BrokenConnectionError as exc:
        connection.abort()
        failure = httpx.ReadError("the connection broke")
        failure.__cause__ = exc.__cause__
    except BaseException:
        connection.abort()
        raise
    else:
        return connection
    raise failure  # not chained: nothing of the answer is to be in what is printed


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in PORTS:
        raise httpx.UnsupportedProtocol("neither http nor https")
    return url.scheme, url.host, url.port or PORTS[url.scheme]


def _head(request: httpx.Request, body_bytes: int) -> bytes:
    """The request line and the headers.

    Raises:
        httpx.LocalProtocolError: a header has a character that would end it.
    """
    lines = [
        request.method.encode("ascii") + b" " + request.url.raw_path + b" HTTP/1.1",
        b"Host: " + request.url.netloc,
    ]
    lines += [name + b": " + value for name, value in request.headers.raw]
    if body_bytes:
        lines.append(b"Content-Length: %d" % body_bytes)
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise httpx.LocalProtocolError("a header is not one line")
    return head + b"\r\n\r\n"


@final
class _Body(httpx.AsyncByteStream):
    """An answer's body, a read of the socket at a time.

    Not a generator: one that is left early is closed some time later, in another task.
    """

    def __init__(self, connection: Http1Connection, left: Callable[[], None]) -> None:
        self._connection = connection
        self._left = left
        self._open = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._connection.read()
        except (BrokenConnectionError, ProtocolError) as exc:
            cut_short = httpx.ReadError(type(exc).__name__)
        else:
            if not data:
                raise StopAsyncIteration
            return data
        raise cut_short  # not chained: what came is not to be printed

    async def aclose(self) -> None:
        """Give the connection back where the answer has ended, else close it. Never waits."""
        if self._open:
            self._open = False
            self._left()
