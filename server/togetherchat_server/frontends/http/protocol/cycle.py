"""One request and its response, as an ASGI application uses them: `receive` and `send`.

A cycle belongs to its connection, which starts it, passes it the request's body and drops it when the
application has returned. To an application that keeps `send` after that, the client has disconnected.
"""

import asyncio
from typing import TYPE_CHECKING, Final, cast, final

from togetherchat_server.frontends.http.protocol.flow_control import FlowControl
from togetherchat_server.frontends.http.protocol.listener import ListenerState
from togetherchat_server.frontends.http.protocol.request_head import RequestHead
from togetherchat_server.frontends.http.protocol.response_writer import ResponseProgress, ResponseWriter

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@final
class Cycle:
    """The two callables of ASGI, and the methods with which the connection passes them input."""

    __slots__ = (
        "_complete",
        "_delivered",
        "_disconnected",
        "_expects_continue",
        "_flow",
        "_listener",
        "_pieces",
        "_waiter",
        "response",
        "unread_bytes",
    )

    def __init__(self, head: RequestHead, flow: FlowControl, listener: ListenerState) -> None:
        self.response: Final = ResponseWriter(
            method=head.method, http_version=head.http_version, keep_alive=head.keep_alive
        )
        self.unread_bytes = 0
        """Number of bytes of the body that the application has not received."""
        self._flow = flow
        self._listener = listener
        self._pieces: list[bytes] = []
        self._complete = head.body is None
        """Whether the whole body has been received from the client."""
        self._delivered = False
        """Whether the application has received the whole body."""
        self._expects_continue = head.expects_continue and not self._complete
        self._disconnected = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def body_awaited(self) -> bool:
        """Whether the application is waiting in `receive`."""
        return self._waiter is not None

    # Called by the connection.

    async def run(self, application: "ASGIApp", scope: "Scope") -> None:
        """Run the application for this request."""
        await application(scope, self.receive, self.send)

    def add(self, piece: bytes) -> None:
        """Buffer a piece of the body, unless the response is complete."""
        self._expects_continue = False
        if self.response.progress is not ResponseProgress.COMPLETE:
            self._pieces.append(piece)
            self.unread_bytes += len(piece)
            self._wake()

    def complete(self) -> None:
        """Mark the body as complete."""
        self._complete = True
        self._wake()

    def disconnect(self) -> None:
        """End the exchange: the client has disconnected, or its body is malformed."""
        self._disconnected = True
        self._wake()

    # Called by the application.

    async def receive(self) -> "Message":
        """Return the next piece of the body, or a disconnect (ASGI)."""
        if self._expects_continue and self.response.progress is ResponseProgress.NOTHING:
            self._expects_continue = False
            self._flow.write(CONTINUE)
        while not self._ended:
            if self._pieces or (self._complete and not self._delivered):
                body = b"".join(self._pieces)
                self._pieces.clear()
                self.unread_bytes = 0
                self._delivered = self._complete
                return {"type": "http.request", "body": body, "more_body": not self._complete}
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: "Message") -> None:
        """Send the head, or a piece of the body after the client has read the earlier ones (ASGI)."""
        response = self.response
        if message["type"] == "http.response.start":
            if self._expects_continue:
                # The next bytes may be this body or another request (RFC 9110 10.1.1): close afterwards.
                response.keep_alive = False
            response.start(message["status"], message.get("headers", ()), self._listener.date)
            return
        if self._flow.stalled:
            await self._flow.drained()
        data = response.body(message.get("body", b""), more=message.get("more_body", False))
        if data:
            self._flow.write(data)
        if response.progress is ResponseProgress.COMPLETE:
            self._pieces.clear()
            self.unread_bytes = 0
            self._wake()

    @property
    def _ended(self) -> bool:
        return self._disconnected or self.response.progress is ResponseProgress.COMPLETE

    async def _wait(self) -> None:
        self._flow.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def connection_scope(transport: asyncio.Transport) -> "Scope":
    """Return the part of the ASGI scope that is the same for every request of a connection."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "scheme": "http" if transport.get_extra_info("sslcontext") is None else "https",
        "server": _address(transport.get_extra_info("sockname")),
        "client": _address(transport.get_extra_info("peername")),
        "root_path": "",
    }


def request_scope(connection: "Scope", head: RequestHead, state: dict[str, object]) -> "Scope":
    """Return the ASGI scope of a request."""
    return {
        **connection,
        "http_version": head.http_version,
        "method": head.method,
        "path": head.path,
        "raw_path": head.raw_path,
        "query_string": head.query_string,
        "headers": head.headers,
        "state": state,
    }


def _address(name: object) -> tuple[str, int] | None:
    """Return host and port of a socket address. An IPv6 address has two more members."""
    if not isinstance(name, tuple):
        return None
    host, port, *_ = cast("tuple[str, int]", name)
    return host, port
