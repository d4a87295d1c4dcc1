"""An `httpx.AsyncBaseTransport` over aiohttp: sends one request, gives back one response.

Speaks httpx's types and raises httpx's exceptions, so that whatever is above it can be tried
with `httpx.MockTransport`. Knows no key, no retry policy, and no time but that of connecting.

Why not httpx's own transport: requests that are cancelled cost it pool slots for good, and its
CPU per request grows with the connections that are open. Why not `httpx.AsyncClient` over
this: it doubles the CPU per request. `bench/transports.py` measures both.
"""

import io
import ssl
import time
from collections.abc import Callable
from typing import Final, Self, final

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver

from togetherchat_server.upstream.connections import Connector, KeepAliveRanOutError
from togetherchat_server.upstream.limits import TransportLimits

READ_BUFFER_BYTES: Final = 64 * 1024
"""aiohttp stops reading from the socket at twice this: what a stream that nobody reads costs."""
ONE_WRITE_BYTES_MAX: Final = 2**20
"""aiohttp warns where a larger body is not given as a file, which it then sends in pieces."""

# In this order: the first that fits. What is below `ClientError` broke before an answer.
_FAILURES: Final[tuple[tuple[type[Exception], type[httpx.TransportError]], ...]] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.ClientError, httpx.ReadError),
    (OSError, httpx.ReadError),
    (ValueError, httpx.LocalProtocolError),  # a character that no header may carry
)


@final
class Engine(httpx.AsyncBaseTransport):
    """HTTP/1.1 over pooled connections: nothing compressed, no redirect followed, no cookie kept.

    A request more than `connections_max` is refused at once with `httpx.PoolTimeout`: there is
    a queue above, and two would hide how long a call has waited. The sessions are made with
    the first request, on the loop that runs it.

    Args:
        limits: those of connections.
        tls: what to trust.
        resolver: for names, in tests; the system's where None.
        now_s: a monotonic clock.
    """

    def __init__(
        self,
        limits: TransportLimits,
        *,
        tls: ssl.SSLContext,
        resolver: AbstractResolver | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._tls = tls
        self._resolver = resolver
        self._now_s = now_s
        self._in_flight = 0
        self._closed = False
        self._connectors: list[Connector] = []
        self._pooled: aiohttp.ClientSession | None = None
        self._single: aiohttp.ClientSession | None = None

    @property
    def in_flight(self) -> int:
        """Requests that were begun and whose response is not closed."""
        return self._in_flight

    def connections(self) -> tuple[int, int]:
        """How many connections serve a request, and how many wait for one."""
        leased = sum(connector.leased for connector in self._connectors)
        return leased, sum(connector.resting for connector in self._connectors)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._closed:
            raise httpx.ConnectError("the transport is closed")
        if self._in_flight >= self._limits.connections_max:
            raise httpx.PoolTimeout("every connection is in use")
        self._in_flight += 1
        try:
            answer = await self._ask(request)
        except BaseException:
            self._in_flight -= 1
            raise
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer, self._leave))

    async def aclose(self) -> None:
        """Close every connection, those in use too."""
        self._closed = True
        for session in (self._pooled, self._single):
            if session is not None:
                await session.close()

    async def _ask(self, request: httpx.Request) -> aiohttp.ClientResponse:
        self._pooled = self._pooled or self._session(reuse_s=self._limits.keepalive_s)
        try:
            try:
                return await _send(self._pooled, request)
            except KeepAliveRanOutError:
                # Not from the pool again: where one connection has run out, so may have others.
                self._single = self._single or self._session(reuse_s=0)
                return await _send(self._single, request)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            failure = exc
        raise _translated(failure) from _shareable(failure)

    def _session(self, *, reuse_s: float) -> aiohttp.ClientSession:
        connector = Connector(
            reuse_s=reuse_s,
            age_max_s=self._limits.connection_age_s,
            tls=self._tls,
            now_s=self._now_s,
            resolver=self._resolver or aiohttp.ThreadedResolver(),
        )
        self._connectors.append(connector)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._limits.connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BUFFER_BYTES,
        )

    def _leave(self) -> None:
        self._in_flight -= 1


async def _send(session: aiohttp.ClientSession, request: httpx.Request) -> aiohttp.ClientResponse:
    body = await request.aread()
    return await session.request(
        request.method,
        str(request.url),
        # `multi_items` would first try every header for its encoding.
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
        data=io.BytesIO(body) if len(body) > ONE_WRITE_BYTES_MAX else body or None,
        allow_redirects=False,
    )


def _translated(failure: Exception) -> httpx.TransportError:
    known = next(known for kind, known in _FAILURES if isinstance(failure, kind))
    return known("the request failed")


def _shareable(failure: Exception) -> Exception | None:
    """A failure to chain, unless it carries the request, with its key, or what the upstream sent."""
    return None if isinstance(failure, aiohttp.ClientResponseError) else failure


@final
class _Body(httpx.AsyncByteStream):
    """An answer's body, a read of the socket at a time.

    Not a generator: one that is left early is closed some time later, in another task.
    """

    def __init__(self, answer: aiohttp.ClientResponse, left: Callable[[], None]) -> None:
        self._answer = answer
        self._left = left
        self._open = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as exc:
            cut_short = httpx.ReadError(type(exc).__name__)
        else:
            if not data:
                raise StopAsyncIteration
            return data
        raise cut_short  # not chained: aiohttp's text quotes the answer

    async def aclose(self) -> None:
        """Give the connection back where the answer has ended, else close it. Never waits."""
        if self._open:
            self._open = False
            self._answer.close()
            self._left()
