"""One HTTP request and its response.

Reads a bounded body, keeps the order of the response's parts, and waits for a peer that does not
read. Knows no call and no route.
"""

from collections.abc import Iterable
from typing import Final, cast, final

from starlette.types import Receive, Scope, Send

from togetherchat_server.calls.response_metadata import ResponseMetadata
from togetherchat_server.domain.deadline import WRITE_TIMEOUT_MESSAGE, Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.http.protocol.connection import CONNECTION, Connection
from togetherchat_server.frontends.http.unread_bodies import UnreadBodies, UnreadBody

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
REQUEST_TIMEOUT_MESSAGE: Final = "the request did not arrive within the request read timeout"
# `no-transform` and the header for nginx keep proxies from buffering the stream.
STREAM_HEADERS: Final[ResponseMetadata] = (
    ("content-type", EVENT_STREAM),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
)


@final
class Exchange:
    """A request, and how much of its response has been sent."""

    __slots__ = (
        "_receive",
        "_send",
        "_write_timeout_s",
        "common_headers",
        "connection",
        "finished",
        "headers",
        "scope",
        "started",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, write_timeout_s: float) -> None:
        self.scope = scope
        self.headers = _headers(scope["headers"])
        self.connection = cast("Connection", scope["state"][CONNECTION])
        self.common_headers: ResponseMetadata = ()
        """Headers of the response, whatever it is."""
        self.started = False
        """Whether the status has been sent."""
        self.finished = False
        """Whether the last byte has been passed to the connection."""
        self._receive = receive
        self._send = send
        self._write_timeout_s = write_timeout_s

    @property
    def host(self) -> str:
        """The peer's address; empty if it has none."""
        client = cast("tuple[str, int] | None", self.scope.get("client"))
        return client[0] if client else ""

    @property
    def stalled(self) -> bool:
        """Whether the peer reads too slowly: writes must wait."""
        return self.connection.flow.stalled

    @property
    def method(self) -> str:
        return cast("str", self.scope["method"])

    @property
    def path(self) -> str:
        return cast("str", self.scope["path"])

    async def body(self, *, bytes_max: int, timeout_s: float, unread: UnreadBodies, client: str) -> bytes:
        """Read the whole body. While it is incomplete, its bytes are counted in `unread` for the client.

        Raises:
            ServiceError: REQUEST_TOO_LARGE, at the first byte beyond the bound; OVERLOADED; CALLER_STALLED.
        """
        length = self.headers.get("content-length", "0")
        if len(length) > len(str(bytes_max)) or int(length) > bytes_max:
            raise _too_large(bytes_max)
        if self.connection.request_complete:
            return await self._body(bytes_max)
        with unread.receiving(client) as received:
            async with Deadline(timeout_s, Reason.CALLER_STALLED, REQUEST_TIMEOUT_MESSAGE):
                return await self._body(bytes_max, received)

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the status together with the first part of the body: `write` or `end` must follow."""
        self.started = True
        pairs = [
            (name.encode("ascii"), value.encode("latin-1"))
            for name, value in (*headers, *self.common_headers)
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes) -> None:
        """Send a part of the body, after the peer has read the earlier parts.

        Raises:
            ServiceError: CALLER_STALLED.
        """
        await self.drained()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last part, and wait until the peer has read most of it.

        Raises:
            ServiceError: CALLER_STALLED.
        """
        await self.drained()
        self.finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
        await self.drained()

    async def break_off(self, data: bytes) -> None:
        """Send the last part of a body that stays incomplete, and wait until the peer has read most of it.

        The connection then closes without the last chunk. So a client that does not understand the part
        does not take what it has received for the whole.

        Raises:
            ServiceError: CALLER_STALLED.
        """
        await self.write(data)
        self.finished = True
        await self.drained()

    async def respond(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send a complete response."""
        await self.start(status, (*headers, ("content-length", str(len(body)))))
        await self.end(body)

    async def drained(self) -> None:
        """Return once the peer has read most of the earlier parts.

        Raises:
            ServiceError: CALLER_STALLED.
        """
        if self.stalled:
            async with Deadline(self._write_timeout_s, Reason.CALLER_STALLED, WRITE_TIMEOUT_MESSAGE):
                await self.connection.flow.drained()

    async def _body(self, bytes_max: int, received: UnreadBody | None = None) -> bytes:
        body, more = b"", True
        buffer: bytearray | None = None
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if self.connection.body_problem:
                    raise ServiceError(Reason.INVALID_REQUEST, self.connection.body_problem)
                raise ServiceError(
                    Reason.CALLER_CANCELLED, "the caller disconnected before its request was complete"
                )
            part: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            if buffer is None and not more:
                body = part  # the common case: the body arrived in one part
            elif buffer is None:
                buffer = bytearray(part)
            else:
                buffer += part
            if received is not None:
                received.add(len(part))
            if len(body if buffer is None else buffer) > bytes_max:
                raise _too_large(bytes_max)
        return body if buffer is None else bytes(buffer)


def _too_large(bytes_max: int) -> ServiceError:
    return ServiceError(
        Reason.REQUEST_TOO_LARGE, f"the request is larger than {bytes_max} bytes, the limit of this service"
    )


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers in lower case. One that is sent twice becomes a value that no check accepts."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
