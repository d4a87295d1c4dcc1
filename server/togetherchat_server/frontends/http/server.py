"""The HTTP server: where it listens, and how it stops.

It runs in the service's loop, on sockets of its own: port 0 becomes a number, an address in use
is an error before anything is served, and workers share a port.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from typing import Final, final

from starlette.types import ASGIApp

from togetherchat_server.config.tls import Certificates
from togetherchat_server.frontends.http.handler import HttpHandler
from togetherchat_server.frontends.http.openai.errors import rejection
from togetherchat_server.frontends.http.protocol.connection import Connection
from togetherchat_server.frontends.http.protocol.listener import ConnectionLimits, ListenerState
from togetherchat_server.frontends.http.tls_context import CurrentContext

BACKLOG: Final = 1024
DATE_S: Final = 1.0
# A peer that says nothing, and one that does not say goodbye.
HANDSHAKE_S: Final = 10.0
GOODBYE_S: Final = 1.0
# A name such as localhost has an address of a family that this machine may not speak.
NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@final
class HttpServer:
    """The HTTP door."""

    def __init__(
        self,
        *,
        handler: HttpHandler,
        application: ASGIApp,
        wall_clock: Callable[[], float],
        share_port: bool,
        certificates: Certificates | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._handler = handler
        self._wall_clock = wall_clock
        self._share_port = share_port
        self._certificates = certificates
        self._state = ListenerState(
            application=application, rejection=rejection, limits=limits or ConnectionLimits()
        )
        self._servers: list[asyncio.Server] = []
        self._ticking: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Callers' connections, idle ones too."""
        return len(self._state.connections)

    async def start(self, address: str) -> str:
        """Bind and serve; the bound address.

        Raises:
            OSError: the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        sockets = _bound(host, int(port), share_port=self._share_port)
        self._tick()
        for listener in sockets:
            self._servers.append(await self._listen(listener))
        return f"{host}:{sockets[0].getsockname()[1]}"

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if self._certificates is None:
            return await loop.create_server(self._connection, sock=listener, backlog=BACKLOG)
        return await loop.create_server(
            self._connection,
            sock=listener,
            backlog=BACKLOG,
            ssl=CurrentContext(self._certificates),
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=GOODBYE_S,
        )

    def stop_listening(self) -> None:
        """Close the listening sockets. Connections stay open."""
        for server in self._servers:
            server.close()

    def stop_accepting(self) -> None:
        """Listen no more, and let every connection end with what it is doing now."""
        self.stop_listening()
        for connection in list(self._state.connections):
            connection.shutdown()

    def abort_in_flight(self) -> None:
        self._handler.abort_in_flight()

    async def finish(self, grace_s: float) -> None:
        """Wait for the last bytes, at most `grace_s`, then cut off who has not taken them."""
        if self._state.connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._state.all_closed.wait()
        await self.close()

    async def close(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        self.stop_accepting()
        for connection in list(self._state.connections):
            connection.abort()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)

    def _connection(self) -> Connection:
        return Connection(self._state)

    def _tick(self) -> None:
        """The date of every response, made once a second."""
        self._state.date = formatdate(self._wall_clock(), usegmt=True).encode("ascii")
        self._ticking = asyncio.get_running_loop().call_later(DATE_S, self._tick)


def _bound(host: str, port: int, *, share_port: bool) -> list[socket.socket]:
    """Sockets at every address of the host, on one port."""
    bound: list[socket.socket] = []
    problem: OSError | None = None
    try:
        places = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, place in dict.fromkeys(places):
            try:
                bound.append(_bound_one(family, str(place[0]), port, share_port=share_port))
            except OSError as exc:
                if exc.errno not in NOT_HERE:
                    raise
                problem = exc
            else:
                port = bound[0].getsockname()[1]
    except OSError as exc:
        for one in bound:
            one.close()
        raise OSError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    if not bound:
        raise OSError(f"cannot listen on {host}:{port}: {problem.strerror if problem else 'no such address'}")
    return bound


def _bound_one(family: int, place: str, port: int, *, share_port: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # Connections of a server that stopped a minute ago are no server.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((place, port))
    except BaseException:
        listener.close()
        raise
    return listener
