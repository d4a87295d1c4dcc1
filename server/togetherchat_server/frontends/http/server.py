"""The HTTP server: binds its sockets, serves connections, and stops in steps.

The server binds its sockets itself. So port 0 can be resolved, an address in use is an error before
any listener serves, and workers can share a port.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from typing import Final, final

from starlette.types import ASGIApp

from togetherchat_server.config.listen_address import ListenAddress, bound_sockets, remove_stale_socket
from togetherchat_server.config.tls import Certificates
from togetherchat_server.domain.addresses import TrustedProxies
from togetherchat_server.frontends.http.openai.errors import rejection
from togetherchat_server.frontends.http.protocol.connection import Connection
from togetherchat_server.frontends.http.protocol.listener import ConnectionLimits, ListenerState
from togetherchat_server.frontends.http.tls_context import CurrentContext

BACKLOG: Final = 1024
ACCEPTS_PER_TURN: Final = 32
"""Connections accepted in one turn of the event loop. asyncio accepts as many as its backlog: the files of
those that are closed for them would not be free yet.
"""
DATE_S: Final = 1.0
# How long a peer may take for the TLS handshake, and for the close_notify at the end.
HANDSHAKE_S: Final = 10.0
CLOSE_NOTIFY_S: Final = 1.0


@final
class HttpServer:
    """The HTTP listener."""

    def __init__(
        self,
        *,
        application: ASGIApp,
        wall_clock: Callable[[], float],
        share_port: bool,
        certificates: Certificates | None = None,
        trusted_proxies: TrustedProxies | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._wall_clock = wall_clock
        self._share_port = share_port
        self._certificates = certificates
        self._state = ListenerState(
            application=application,
            rejection=rejection,
            limits=limits or ConnectionLimits(),
            # With TLS, the header comes before the handshake, which asyncio begins by itself.
            proxies=trusted_proxies if trusted_proxies and certificates is None else None,
        )
        self._path = ""
        """Of the UNIX socket, while the server listens on one."""
        self._servers: list[asyncio.Server] = []
        self._date_timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Number of open connections, including idle ones."""
        return len(self._state.connections)

    async def start(self, address: str, *, socket_mode: int = 0o600) -> str:
        """Bind and serve. Return the bound address. The file of a UNIX socket has the mode.

        Raises:
            OSError: the address cannot be bound.
        """
        where = ListenAddress.parse(address)
        sockets = bound_sockets(where, share_port=self._share_port, mode=socket_mode)
        self._path = where.path
        self._update_date()
        for listener in sockets:
            self._servers.append(await self._listen(listener))
        return str(where if where.path else where.with_port(sockets[0].getsockname()[1]))

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if self._certificates is None:
            server = await loop.create_server(self._connection, sock=listener, backlog=ACCEPTS_PER_TURN)
        else:
            server = await loop.create_server(
                self._connection,
                sock=listener,
                backlog=ACCEPTS_PER_TURN,
                ssl=CurrentContext(self._certificates),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSE_NOTIFY_S,
            )
        listener.listen(BACKLOG)
        return server

    def stop_listening(self) -> None:
        """Close the listening sockets. Connections stay open."""
        for server in self._servers:
            server.close()
        if self._path:
            with suppress(OSError):  # another process listens there by now
                remove_stale_socket(self._path)
            self._path = ""

    def stop_accepting(self) -> None:
        """Stop listening, and close each connection after its request in flight or its next one.

        Idle connections stay open until `close_idle`: requests may be on their way. A proxy cannot send them
        again, because it does not know whether they were worked on.
        """
        self.stop_listening()
        for connection in list(self._state.connections):
            connection.close_after_response()

    def close_idle(self) -> None:
        """Close the connections without a request in flight."""
        for connection in list(self._state.connections):
            connection.shutdown()

    async def finish(self, grace_s: float) -> None:
        """Wait up to `grace_s` for the connections to end, then abort the others."""
        if self._state.connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._state.all_closed.wait()
        await self.close()

    async def close(self) -> None:
        if self._date_timer is not None:
            self._date_timer.cancel()
        self.stop_listening()
        for connection in list(self._state.connections):
            connection.abort()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)

    def _connection(self) -> Connection:
        return Connection(self._state)

    def _update_date(self) -> None:
        """Update the `date` header, once a second."""
        self._state.date = formatdate(self._wall_clock(), usegmt=True).encode("ascii")
        self._date_timer = asyncio.get_running_loop().call_later(DATE_S, self._update_date)
