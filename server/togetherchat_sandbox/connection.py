"""The hook below ASGI: cuts and resets a connection, and reports when it is lost.

ASGI can do neither of the first two, and reports a disconnect only while a request is in flight.
uvicorn's connection therefore stays as it is, except that it is passed to the application in the
request's `state`, and that two callbacks of `asyncio.Protocol` are extended: made and lost.

uvicorn's connection on h11 is used, not the one on httptools. The latter drops the body of a request
that offers an upgrade, and Java's own HTTP client offers h2c with every request (uvicorn 0.54).
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, final

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_STATE_KEY: Final = "connection"

# SO_LINGER with a timeout of 0: closing the socket sends RST instead of FIN.
_NO_LINGER: Final = struct.pack("ii", 1, 0)


@final
class SandboxConnection(H11Protocol):
    """One connection of a client."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        *,
        on_made: Callable[["SandboxConnection"], None],
        on_lost: Callable[["SandboxConnection"], None],
    ) -> None:
        super().__init__(config, state, {_STATE_KEY: self})
        self._on_made = on_made
        self._on_lost = on_lost

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._on_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_lost(self)

    def close(self) -> None:
        """Close the connection after the written bytes are sent, even in the middle of a message."""
        self.transport.close()

    def reset(self) -> None:
        """Close the connection with RST, unless the client has closed it."""
        sock: socket.socket = self.transport.get_extra_info("socket")
        if sock.fileno() < 0:
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def abort(self) -> None:
        """Close the connection at once, without sending the written bytes."""
        self.transport.abort()


def connection_of(scope: Scope) -> SandboxConnection:
    """Return the connection that a request arrived on."""
    connection = scope["state"][_STATE_KEY]
    assert isinstance(connection, SandboxConnection)  # noqa: S101  every connection is made by the sandbox
    return connection
