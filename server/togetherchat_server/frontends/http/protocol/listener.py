"""What the connections of one listener share: the application, their bounds, and who is open."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp

READ_BYTES: Final = 64 * 2**10
"""Of one read. asyncio's own reads allocate 256 KiB each, which the C library may map and unmap for
every request: a third of the CPU of a small one.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The bounds of connections: seconds, bytes and a number."""

    head_s: float = 10.0
    """From the connection, or from the first byte of a further request."""
    head_bytes_max: int = 64 * 2**10
    """From the first byte to the empty line that ends the head."""
    held_bytes_max: int = 64 * 2**10
    """Of an unread body or of further requests. What one read brings on top of them is kept too."""
    linger_s: float = 5.0
    idle_s: float = 75.0
    """Longer than the pools of common clients keep a connection that nobody uses: a server that
    closes first may do so while a request is on its way.
    """
    connections_max: int = 4096


Rejection = Callable[[HTTPStatus, str], tuple[list[tuple[bytes, bytes]], bytes]]
"""The headers and the body that answer bytes which are not a request."""


class OpenConnection(Protocol):
    """What a server does with its connections."""

    def shutdown(self) -> None:
        """End with the request that runs now; at once where there is none."""
        ...

    def abort(self) -> None:
        """Cut the connection now, whatever waits to be sent."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class ListenerState:
    """The state of one listener."""

    application: "ASGIApp"
    rejection: Rejection
    limits: ConnectionLimits
    date: bytes = b""
    """The value of the `date` header now."""
    read_buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))
    """One for all connections: what is read is copied before anything else is read."""
    connections: set[OpenConnection] = field(default_factory=set[OpenConnection])
    """Those that are open, idle ones too."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """Applications that run."""
    all_closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last open connection has closed."""

    def opened(self, connection: OpenConnection) -> bool:
        """Count a connection; False if there are too many."""
        self.connections.add(connection)
        self.all_closed.clear()
        return len(self.connections) <= self.limits.connections_max

    def closed(self, connection: OpenConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections:
            self.all_closed.set()
