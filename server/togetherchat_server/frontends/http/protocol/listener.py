"""The state that the connections of one listener share: application, limits, open connections."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from togetherchat_server.domain.addresses import TrustedProxies

if TYPE_CHECKING:
    from starlette.types import ASGIApp

READ_BYTES: Final = 64 * 2**10
"""Bytes of one read. asyncio's default reads allocate 256 KiB each, which the C library may map and
unmap for every request: a third of the CPU of a small request.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits of connections. Times are in seconds."""

    head_s: float = 10.0
    """Time for a request head, from the connection or from the first byte of a further request."""
    head_bytes_max: int = 64 * 2**10
    """Size of a request head, including the empty line that ends it."""
    buffered_bytes_max: int = 64 * 2**10
    """Bytes of an unread body or of further requests after which reading pauses. One read may exceed it."""
    linger_s: float = 5.0
    """Time in which input is discarded before the connection closes."""
    idle_s: float = 75.0
    """Time until an idle connection closes. It is longer than the pools of common clients keep an idle
    connection: a server that closes first may do so while a request is on its way.
    """
    close_s: float = 75.0
    """Time for the client to read what is unsent when the connection closes."""
    connections_max: int = 4096
    """Open connections. For a further one, one without a request is closed."""


Rejection = Callable[[HTTPStatus, str], tuple[list[tuple[bytes, bytes]], bytes]]
"""Returns the headers and the body of the response to bytes that are not a valid request."""


class OpenConnection(Protocol):
    """A connection, as the server uses it."""

    def close_after_response(self) -> None:
        """Close after the request in flight, or after the next one."""
        ...

    def shutdown(self) -> None:
        """Close after the request in flight; immediately if there is none."""
        ...

    def abort(self) -> None:
        """Close the connection immediately and discard unsent bytes."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class ListenerState:
    """The state of one listener."""

    application: "ASGIApp"
    rejection: Rejection
    limits: ConnectionLimits
    proxies: TrustedProxies | None = None
    """Peers that may send a header of the PROXY protocol; None for none."""
    date: bytes = b""
    """The current value of the `date` header."""
    read_buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))
    """Shared by all connections: the bytes of a read are copied before the next read."""
    connections: set[OpenConnection] = field(default_factory=set[OpenConnection])
    """The open connections, including idle ones."""
    strangers: dict[OpenConnection, None] = field(default_factory=dict[OpenConnection, None])
    """Those without a request in flight that were never served, the oldest first."""
    idle: dict[OpenConnection, None] = field(default_factory=dict[OpenConnection, None])
    """Those without a request in flight that were served before, the longest idle first."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """The running applications."""
    all_closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last open connection has closed."""

    def opened(self, connection: OpenConnection) -> bool:
        """Add a connection. If there are too many, abort one without a request: a stranger, if there is one.

        Return False if all others have requests.
        """
        self.connections.add(connection)
        self.all_closed.clear()
        if len(self.connections) > self.limits.connections_max:
            aborted = next(iter(self.strangers or self.idle), None)
            if aborted is None:
                return False
            self.begins_request(aborted)
            aborted.abort()
        return True

    def begins_request(self, connection: OpenConnection) -> None:
        """Record that a connection has a request in flight: it is not aborted for another one."""
        self.strangers.pop(connection, None)
        self.idle.pop(connection, None)

    def awaits_request(self, connection: OpenConnection, *, served: bool) -> None:
        """Record that a connection has no request in flight; `served`: a request of it was accepted."""
        (self.idle if served else self.strangers)[connection] = None

    def closed(self, connection: OpenConnection) -> None:
        """Remove a connection."""
        self.connections.discard(connection)
        self.begins_request(connection)
        if not self.connections:
            self.all_closed.set()
