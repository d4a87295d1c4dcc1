"""One connection of a caller: uvicorn's, with the bounds that it does not have.

uvicorn parses HTTP/1.1 (llhttp), queues what is pipelined and stops reading where nobody takes
a body. What it leaves unbounded, and what is done about it here (each measured on uvicorn 0.54):

- A peer that connects and says nothing, or sends its headers a byte at a time, may stay for
  ever: from the first byte, or from the connection on, they have `head_s`.
- Headers of any size are kept: `head_bytes_max`, counted as they come.
- Any number of peers may connect: the one after `connections_max` is let go at once.
- A body that nobody reads any more (the call was refused) is thrown away as it comes, for
  ever: the peer has `linger_s` to end it. It is not cut off at once, since a peer that is still
  sending would see a reset instead of its refusal.
- A connection that ends while bytes wait to be sent lives on until its peer has taken them: it
  is cut off.
- A peer that leaves is noticed by the application when it asks next. Here the call is told.

What cannot be done here: uvicorn stops reading while pipelined requests wait, and a peer that
pipelines and leaves is noticed when the answer before is written. No client library pipelines.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast, final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from togetherchat_server.calls.session import request_id_or_new
from togetherchat_server.frontends.http.openai.errors import INVALID, ErrorResponse

KEY: Final = "connection"
"""Where a request's `state` names its connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The bounds of connections: seconds, bytes and a number."""

    head_s: float = 10.0
    head_bytes_max: int = 64 * 2**10
    linger_s: float = 5.0
    idle_s: float = 75.0
    """Longer than the pools of common clients keep a connection that nobody uses: a server that
    closes first may do so while a request is on its way.
    """
    connections_max: int = 4096


@final
class Corked:
    """A transport that keeps the head of a response until its first piece comes, and sends the two at
    once: uvicorn writes them one by one, and the second write is a sixth of a small answer's cost.
    """

    __slots__ = ("_head", "_transport", "keeps")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.keeps = False

    def write(self, data: bytes) -> None:
        if self.keeps:
            self._head += data
        elif self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        else:
            self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        """Everything else is the transport's."""
        return getattr(self._transport, name)


@final
class Connection(HttpToolsProtocol):
    """What `asyncio` calls. A call is given it as `state["connection"]`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        limits: ConnectionLimits,
        began: Callable[["Connection"], object],
        ended: Callable[["Connection"], object],
    ) -> None:
        super().__init__(config, server_state, {KEY: self})
        self.on_lost: Callable[[], object] | None = None
        """Called when the peer has left, if a call is running."""
        self._limits = limits
        self._began = began
        self._ended = ended
        self._asked = False
        self._in_head = True
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def received(self) -> bool:
        """Whether all of the request has come, so that nothing of it has to be waited for."""
        return not self.cycle.more_body

    @property
    def stalled(self) -> bool:
        """Whether the peer takes no more for now."""
        return self.flow.write_paused

    def cork(self, keep: bool) -> None:  # noqa: FBT001  a switch
        """Keep what is written, or let it go with the next write."""
        self._corked.keeps = keep

    async def drained(self) -> None:
        """Wait until the peer takes more."""
        await self.flow.drain()

    def abort(self) -> None:
        """End it now, whatever waits to be sent."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._corked = Corked(transport)
        super().connection_made(cast("asyncio.Transport", self._corked))
        self._began(self)
        if len(self.connections) > self._limits.connections_max:
            transport.abort()
            return
        self._give(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._take_back()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
        self._ended(self)

    def eof_received(self) -> None:
        """A peer that ends its side while a call runs is taken to have left: no client does that and
        waits for an answer.
        """
        if self._busy():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._timer is None and not self._busy():
            self._give(self._limits.head_s)
        if self._head_bytes > self._limits.head_bytes_max:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")

    def on_headers_complete(self) -> None:
        self._asked = True
        self._in_head = False
        self._head_bytes = 0
        self._take_back()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()
        if not self._busy():
            # The rest of a refused request is through, and unset uvicorn's own timer on its way.
            self._take_back()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not (self._in_head or self.transport.is_closing()):
            self._give(self._limits.linger_s)

    def send_400_response(self, msg: str) -> None:
        del msg
        self._refuse(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1")

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing that a caller does is worth a line in the log."""

    def _busy(self) -> bool:
        return self._asked and not self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer what is no request. In the middle of another answer nothing can be said."""
        if self._busy():
            self.transport.abort()
        if self.transport.is_closing():
            return
        fault = ErrorResponse(status=status, type=INVALID, code=status.name.lower(), message=message)
        body = fault.body()
        lines = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id_or_new('')}",
            "x-should-retry: false",
            "connection: close",
            "\r\n",
        )
        self.transport.write("\r\n".join(lines).encode() + body)
        self.transport.close()

    def _give(self, seconds: float) -> None:
        self._take_back()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _take_back(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
