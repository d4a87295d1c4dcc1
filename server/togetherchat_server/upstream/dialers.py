"""Open connections to an origin: directly, or through an egress proxy.

A dialer bounds nothing in time: the pool does. What it opens is closed if it fails or is cancelled.
"""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, final

from togetherchat_server.config.proxy import Proxy
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream import proxy_connect
from togetherchat_server.upstream.http1 import Http1Connection
from togetherchat_server.upstream.proxy_connect import ConnectResponse
from togetherchat_server.upstream.socks import SocksConnector

FORCE_CLOSE: Final = "_force_close"
"""Called when a handshake fails. It raises a TypeError in Python 3.11.7 and 3.12.1
(python/cpython#113214), and the connection would wait for the connect timeout."""
FORCE_CLOSE_WORKS: Final = (3, 13)
PROXY_TLS_FAILED: Final = "the TLS handshake with the egress proxy failed"

Origin = tuple[str, str, int]
"""Scheme, host, port."""
TlsContexts = Callable[[], ssl.SSLContext]
"""Returns the context for a connection that opens now."""
Forwarding = tuple[tuple[bytes, bytes], ...]
"""Headers for a proxy that forwards a request, rather than a tunnel."""


class Connector(Protocol):
    """Connects sockets."""

    async def connect(self, host: str, port: int) -> socket.socket:
        """Return a socket connected to a host.

        Raises:
            OSError, ServiceError: it cannot be connected.
        """
        ...


class Dialer(Protocol):
    """Opens connections."""

    async def dial(self, origin: Origin) -> Http1Connection:
        """Return a connection over which requests for the origin can be sent.

        Raises:
            OSError: the origin cannot be reached; `ssl.SSLError` if its handshake failed.
            ServiceError: UPSTREAM_CONNECT_FAILED, UPSTREAM_TLS_FAILED, the proxy is the cause.
        """
        ...

    def forwarding(self, scheme: str) -> Forwarding | None:
        """Return the headers for a proxy that forwards requests of a scheme, or None: no proxy reads them."""
        ...


@final
class SocketDialer:
    """Sends requests over sockets that lead to the origin: directly, or through a SOCKS proxy."""

    def __init__(self, tls: TlsContexts, connector: Connector, *, now_s: Callable[[], float]) -> None:
        self._tls = tls
        self._connector = connector
        self._now_s = now_s

    async def dial(self, origin: Origin) -> Http1Connection:
        scheme, host, port = origin
        sock = await self._connector.connect(host, port)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Http1Connection(now_s=self._now_s), sock=sock)
        if scheme == "https":
            await connection.start_tls(self._tls(), host)
        return connection

    def forwarding(self, scheme: str) -> Forwarding | None:
        del scheme
        return None


@final
class HttpProxyDialer:
    """Connects through an HTTP proxy: a tunnel for `https` origins, while requests of `http` are forwarded.

    A proxy of scheme `https` is itself reached over TLS. The proxy resolves the origin's name.
    """

    def __init__(
        self, proxy: Proxy, tls: TlsContexts, connector: Connector, *, now_s: Callable[[], float]
    ) -> None:
        self._proxy = proxy
        self._tls = tls
        self._connector = connector
        self._now_s = now_s
        self._forwarding = proxy_connect.authorization(proxy)

    async def dial(self, origin: Origin) -> Http1Connection:
        scheme, host, port = origin
        socket_transport, handshake = await self._connect()
        try:
            transport = await self._secured(socket_transport, handshake)
            if scheme == "https":
                transport.write(proxy_connect.connect_request(host, port, self._proxy))
                await handshake.response
            connection = Http1Connection(now_s=self._now_s)
            connection.adopt(transport, socket_transport)
            if scheme == "https":
                await connection.start_tls(self._tls(), host)
        except BaseException:
            socket_transport.abort()
            raise
        return connection

    def forwarding(self, scheme: str) -> Forwarding | None:
        return self._forwarding if scheme == "http" else None

    async def _connect(self) -> tuple[asyncio.Transport, "_Handshake"]:
        try:
            sock = await self._connector.connect(self._proxy.host, self._proxy.port)
            return await asyncio.get_running_loop().create_connection(_Handshake, sock=sock)
        except OSError as exc:
            raise proxy_connect.failed(proxy_connect.UNREACHABLE) from exc

    async def _secured(self, transport: asyncio.Transport, handshake: "_Handshake") -> asyncio.Transport:
        if self._proxy.scheme != "https":
            return transport
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, handshake, self._tls(), server_hostname=self._proxy.host
            )
        except OSError as exc:
            if isinstance(exc, ssl.SSLError):
                raise ServiceError(Reason.UPSTREAM_TLS_FAILED, PROXY_TLS_FAILED) from exc
            raise proxy_connect.failed(proxy_connect.UNREACHABLE) from exc
        assert secured is not None  # noqa: S101  None only for a transport that is closing
        if sys.version_info < FORCE_CLOSE_WORKS:
            setattr(secured, FORCE_CLOSE, partial(_abort, transport))
        return secured


def _abort(transport: asyncio.Transport, _cause: object) -> None:
    transport.abort()


@final
class _Handshake(asyncio.Protocol):
    """Receives the response of a proxy, before the connection belongs to an `Http1Connection`."""

    def __init__(self) -> None:
        self.response: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._parser = ConnectResponse()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except ServiceError as exc:
            self._fail(exc)
        else:
            if self._parser.is_complete and not self.response.done():
                self.response.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        try:
            self._parser.end()
        except ServiceError as error:
            self._fail(error)

    def _fail(self, error: ServiceError) -> None:
        if not self.response.done():
            self.response.set_exception(error)
            self.response.exception()  # retrieved: nothing waits for it if the connection needs no tunnel


def dialer(
    proxy: Proxy | None, tls: TlsContexts, connector: Connector, *, now_s: Callable[[], float]
) -> Dialer:
    """Return the dialer for a proxy, or for none."""
    if proxy is None:
        return SocketDialer(tls, connector, now_s=now_s)
    if proxy.is_socks:
        return SocketDialer(tls, SocksConnector(proxy), now_s=now_s)
    return HttpProxyDialer(proxy, tls, connector, now_s=now_s)
