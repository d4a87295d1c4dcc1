"""One request and its response, as a call sees them.

Owns the reading of a bounded body, the order of a response's parts, and the wait for a peer
that does not read. Knows no call, no kind of failure beyond those two, and no route.
"""

from collections.abc import Iterable
from typing import Final, cast, final

from starlette.types import Receive, Scope, Send

from togetherchat_server.calls.session import WRITE_TIMEOUT_MESSAGE, ResponseMetadata
from togetherchat_server.domain.deadline import Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.http.protocol.connection import CONNECTION, Connection

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
NOT_SENT: Final = "the request did not come in time"
# `no-transform` and the header of nginx keep proxies from gathering what should flow.
STREAM_HEADERS: Final[ResponseMetadata] = (
    ("content-type", EVENT_STREAM),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
)


@final
class Exchange:
    """A request as it came, and the response as far as it has gone."""

    __slots__ = (
        "_receive",
        "_send",
        "_write_stall_s",
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
        self.started = False
        """Whether the status has been sent."""
        self.finished = False
        """Whether the last byte has been handed on."""
        self._receive = receive
        self._send = send
        self._write_stall_s = write_timeout_s

    @property
    def host(self) -> str:
        """The peer's address, empty where it has none."""
        client = cast("tuple[str, int] | None", self.scope.get("client"))
        return client[0] if client else ""

    @property
    def stalled(self) -> bool:
        """Whether the peer takes no more for now."""
        return self.connection.flow.stalled

    @property
    def method(self) -> str:
        return cast("str", self.scope["method"])

    async def body(self, *, bytes_max: int, within_s: float) -> bytes:
        """The whole body.

        Raises:
            ServiceError: REQUEST_TOO_LARGE, at the first byte too many; CALLER_STALLED.
        """
        length = self.headers.get("content-length", "0")
        if len(length) > len(str(bytes_max)) or int(length) > bytes_max:
            raise _too_large(bytes_max)
        if self.connection.received:
            return await self._body(bytes_max)
        async with Deadline(within_s, Reason.CALLER_STALLED, NOT_SENT):
            return await self._body(bytes_max)

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the status, together with the first piece: `write` or `end` follows at once."""
        self.started = True
        pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes) -> None:
        """Send a piece, once the peer has taken what came before.

        Raises:
            ServiceError: CALLER_STALLED.
        """
        if self.stalled:
            await self._drained()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece, and wait until most of it has been taken.

        Raises:
            ServiceError: CALLER_STALLED.
        """
        if self.stalled:
            await self._drained()
        self.finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
        if self.stalled:
            await self._drained()

    async def answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send a whole response."""
        await self.start(status, (*headers, ("content-length", str(len(body)))))
        await self.end(body)

    async def _body(self, bytes_max: int) -> bytes:
        body, more = b"", True
        gathered: bytearray | None = None
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if self.connection.body_problem:
                    raise ServiceError(Reason.INVALID_REQUEST, self.connection.body_problem)
                raise ServiceError(Reason.CALLER_CANCELLED, "the caller left before its request was whole")
            piece: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            if gathered is None and not more:
                body = piece  # the common case: it came in one piece
            elif gathered is None:
                gathered = bytearray(piece)
            else:
                gathered += piece
            if len(body if gathered is None else gathered) > bytes_max:
                raise _too_large(bytes_max)
        return body if gathered is None else bytes(gathered)

    async def _drained(self) -> None:
        async with Deadline(self._write_stall_s, Reason.CALLER_STALLED, WRITE_TIMEOUT_MESSAGE):
            await self.connection.flow.drained()


def _too_large(bytes_max: int) -> ServiceError:
    return ServiceError(Reason.REQUEST_TOO_LARGE, f"the request is larger than {bytes_max} bytes")


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names; one that comes twice becomes a value that no check lets through."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
