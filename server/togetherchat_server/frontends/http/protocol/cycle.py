"""One request and its response, as an ASGI application sees them: `receive` and `send`.

A cycle outlives nothing: its connection starts it, feeds it the request's body and drops it when
the application has returned. An application that keeps `send` finds a peer that is gone.
"""

import asyncio
from typing import TYPE_CHECKING, Final, cast, final

from togetherchat_server.frontends.http.protocol.flow_control import FlowControl
from togetherchat_server.frontends.http.protocol.listener import ListenerState
from togetherchat_server.frontends.http.protocol.request_head import RequestHead
from togetherchat_server.frontends.http.protocol.response_writer import Progress, ResponseWriter

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@final
class Cycle:
    """The two callables of ASGI, and what the connection feeds them with."""

    __slots__ = (
        "_complete",
        "_expects_continue",
        "_flow",
        "_gone",
        "_listener",
        "_pieces",
        "_taken",
        "_waiter",
        "response",
        "unread_bytes",
    )

    def __init__(self, head: RequestHead, flow: FlowControl, listener: ListenerState) -> None:
        self.response: Final = ResponseWriter(
            method=head.method, http_version=head.http_version, keep_alive=head.keep_alive
        )
        self.unread_bytes = 0
        """Bytes of the body that the application has not taken."""
        self._flow = flow
        self._listener = listener
        self._pieces: list[bytes] = []
        self._complete = head.body is None
        """Whether all of the request's body has come."""
        self._taken = False
        """Whether the application knows that it has all of the body."""
        self._expects_continue = head.expects_continue and not self._complete
        self._gone = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def awaited(self) -> bool:
        """Whether the application waits for the body, so that it takes what comes at once."""
        return self._waiter is not None

    # The connection calls these.

    async def run(self, application: "ASGIApp", scope: "Scope") -> None:
        """Run the application for this request."""
        await application(scope, self.receive, self.send)

    def add(self, piece: bytes) -> None:
        """Keep a piece of the body, unless nobody can ask for it any more."""
        self._expects_continue = False
        if self.response.progress is not Progress.COMPLETE:
            self._pieces.append(piece)
            self.unread_bytes += len(piece)
            self._wake()

    def complete(self) -> None:
        """The body has come."""
        self._complete = True
        self._wake()

    def disconnect(self) -> None:
        """Nothing more can come or go: the peer has left, or what it sends is malformed."""
        self._gone = True
        self._wake()

    # The application calls these.

    async def receive(self) -> "Message":
        """ASGI: the next piece of the body, or the end."""
        if self._expects_continue and self.response.progress is Progress.NOTHING:
            self._expects_continue = False
            self._flow.write(CONTINUE)
        while not self._over:
            if self._pieces or (self._complete and not self._taken):
                body = b"".join(self._pieces)
                self._pieces.clear()
                self.unread_bytes = 0
                self._taken = self._complete
                return {"type": "http.request", "body": body, "more_body": not self._complete}
            await self._woken()
        return {"type": "http.disconnect"}

    async def send(self, message: "Message") -> None:
        """ASGI: the head, or a piece of the body once the peer has taken what came before."""
        response = self.response
        if message["type"] == "http.response.start":
            if self._expects_continue:
                # Whether the body follows is unknown now: what comes next may be either (RFC 9110 10.1.1).
                response.keep_alive = False
            response.start(message["status"], message.get("headers", ()), self._listener.date)
            return
        if self._flow.stalled:
            await self._flow.drained()
        data = response.body(message.get("body", b""), more=message.get("more_body", False))
        if data:
            self._flow.write(data)
        if response.progress is Progress.COMPLETE:
            self._pieces.clear()
            self.unread_bytes = 0
            self._wake()

    @property
    def _over(self) -> bool:
        return self._gone or self.response.progress is Progress.COMPLETE

    async def _woken(self) -> None:
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
    """What ASGI wants to know of a connection."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "scheme": "http" if transport.get_extra_info("sslcontext") is None else "https",
        "server": _address(transport.get_extra_info("sockname")),
        "client": _address(transport.get_extra_info("peername")),
        "root_path": "",
    }


def request_scope(connection: "Scope", head: RequestHead, state: dict[str, object]) -> "Scope":
    """What ASGI wants to know of a request."""
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
    """Host and port of a socket's name: that of IPv6 has more."""
    if not isinstance(name, tuple):
        return None
    host, port, *_ = cast("tuple[str, int]", name)
    return host, port
