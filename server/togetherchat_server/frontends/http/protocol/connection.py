"""HTTP/1.1 for one connection of a caller, on asyncio and llhttp.

A connection reads one request, runs the application for it, and looks at the next request when
the application has returned. So there is one request, one task and one response at a time, and
responses leave in the order of the requests however a caller pipelines them. Bytes that come too
early are held unparsed.

The state says what the next byte from the caller is:

    IDLE        the first of a request head           -> HEAD
    HEAD        a part of the head                    -> BODY, RESPONDING, CLOSING (rejected)
    BODY        a part of the body; the application   -> RESPONDING (the body has come),
                runs                                     LINGERING (the application has returned),
                                                         BROKEN (the body is malformed)
    RESPONDING  the first of the next request: held;  -> IDLE, CLOSING
                the application runs
    BROKEN      of no meaning: dropped; the           -> CLOSING
                application runs
    LINGERING   a part of a body that nobody reads:   -> IDLE (the body has come)
                dropped
    CLOSING     of no meaning: dropped                -> CLOSED
    CLOSED      the connection is lost

A deadline belongs to each state in which no application runs. Where one runs, its own deadlines
count, and a caller who leaves cancels it: asyncio reports the loss of the connection even while
the application reads nothing. To see that, the connection goes on reading until `held_bytes_max`
bytes of an unread body or of further requests have come; then it stops, and a caller who leaves
after that is noticed by the next write alone.

A caller who ends its side while an application runs has left: no client library does that.

A connection that closes before it has read all that was sent would reset, and could destroy
its last response on the way. It ends its own side and drops what comes for `linger_s` (RFC 9112
9.6). Where TLS is spoken, asyncio cannot end one side alone, and the connection closes at once.
"""

import asyncio
import logging
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, cast, final

from togetherchat_server.frontends.http.protocol.cycle import Cycle, connection_scope, request_scope
from togetherchat_server.frontends.http.protocol.flow_control import FlowControl
from togetherchat_server.frontends.http.protocol.lazy_timer import LazyTimer
from togetherchat_server.frontends.http.protocol.listener import ListenerState
from togetherchat_server.frontends.http.protocol.request_body import BadRequestError, Body
from togetherchat_server.frontends.http.protocol.request_head import RequestHead
from togetherchat_server.frontends.http.protocol.response_writer import Progress, ResponseWriter

CONNECTION: Final = "connection"
"""Where `scope["state"]` names the connection: beyond what ASGI offers, an application may ask
whether all of the request has come, wait until the caller takes more, and cut the connection.
"""

_log = logging.getLogger(__name__)


class State(Enum):
    """What the next byte means: see above."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    RESPONDING = auto()
    BROKEN = auto()
    LINGERING = auto()
    CLOSING = auto()
    CLOSED = auto()


_RUNNING: Final = frozenset({State.BODY, State.RESPONDING, State.BROKEN})


@final
class Connection(asyncio.BufferedProtocol):
    """What asyncio calls for one connection."""

    def __init__(self, listener: ListenerState) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._loop = asyncio.get_running_loop()
        self._timer = LazyTimer(self._loop, self._expired)
        self._state = State.IDLE
        self._head: RequestHead | None = None
        self._body: Body | None = None
        self._cycle: Cycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._held = b""
        self._stops = False
        self.body_problem = ""
        """Why the request's body breaks off, where it does."""

    # For the call.

    @property
    def received(self) -> bool:
        """Whether all of the request has come, so that nothing of it has to be waited for."""
        return self._state is State.RESPONDING

    def abort(self) -> None:
        """Cut the connection now, whatever waits to be sent."""
        self._state = State.CLOSED
        self._transport.abort()

    # For the server.

    def shutdown(self) -> None:
        """End with the request that runs now; at once where there is none."""
        if self._state in _RUNNING:
            self._stops = True
            if self._cycle is not None:
                self._cycle.response.keep_alive = False
        elif self._state is State.LINGERING:
            self._linger()
        elif self._state in {State.IDLE, State.HEAD}:
            self._close()

    # For asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.flow = FlowControl(self._transport)
        if not self._listener.opened(self):
            self.abort()
            return
        self._scope = connection_scope(self._transport)
        self._timer.start(self._limits.head_s)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        return self._listener.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._advance(bytes(self._listener.read_buffer[:nbytes]))

    def eof_received(self) -> None:
        """The caller has ended its side. Where nothing is returned, asyncio closes the connection."""
        if self._state in _RUNNING:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._state = State.CLOSED
        self._timer.close()
        self.flow.unstall()
        self._held = b""
        if self._cycle is not None:
            self._cycle.disconnect()
        if self._task is not None:
            self._task.cancel()
        self._listener.closed(self)

    def pause_writing(self) -> None:
        self.flow.stall()

    def resume_writing(self) -> None:
        self.flow.unstall()

    # A request.

    def _advance(self, rest: bytes | None) -> None:
        """Give each byte to the state that it belongs to."""
        while rest:
            match self._state:
                case State.IDLE | State.HEAD:
                    rest = self._read_head(rest)
                case State.BODY | State.LINGERING:
                    rest = self._read_body(rest)
                case State.RESPONDING:
                    self._hold(rest)
                    return
                case State.BROKEN | State.CLOSING | State.CLOSED:
                    return

    def _read_head(self, data: bytes) -> bytes | None:
        if self._head is None:
            self._state = State.HEAD
            self._head = RequestHead(bytes_max=self._limits.head_bytes_max)
        try:
            rest = self._head.feed(data)
        except BadRequestError as error:
            self._reject(error)
            return None
        if rest is None:
            self._timer.shorten(self._limits.head_s)
        else:
            head, self._head = self._head, None
            self._timer.stop()
            self._run(head)
        return rest

    def _run(self, head: RequestHead) -> None:
        """Run the application for a request whose head has come."""
        self._body = head.body
        self._state = State.RESPONDING if head.body is None else State.BODY
        self._cycle = cycle = Cycle(head, self.flow, self._listener)
        scope = request_scope(self._scope, head, {CONNECTION: self})
        self._task = task = self._loop.create_task(cycle.run(self._listener.application, scope))
        self._listener.tasks.add(task)
        task.add_done_callback(self._returned)

    def _read_body(self, data: bytes) -> bytes | None:
        cycle, body = self._cycle, self._body
        assert body is not None  # noqa: S101  these states have one
        try:
            piece, rest = body.feed(data)
        except BadRequestError as error:
            self._break_off(error.message)
            return None
        if cycle is not None and piece:
            cycle.add(piece)
            if cycle.unread_bytes > self._limits.held_bytes_max and not cycle.awaited:
                self.flow.pause_reading()
        if rest is not None:
            if cycle is None:
                self._await_request()
            else:
                self._state = State.RESPONDING
                cycle.complete()
        return rest

    def _break_off(self, problem: str) -> None:
        """End a request whose body is malformed: where the next one begins cannot be known."""
        if self._cycle is None:
            self._linger()
            return
        self.body_problem = problem
        self._state = State.BROKEN
        self._cycle.response.keep_alive = False
        self._cycle.disconnect()

    def _hold(self, data: bytes) -> None:
        """Keep the bytes of further requests until the application has returned."""
        self._held += data
        if len(self._held) > self._limits.held_bytes_max:
            self.flow.pause_reading()

    def _returned(self, task: asyncio.Task[None]) -> None:
        """The application has returned, or was cancelled."""
        self._listener.tasks.discard(task)
        cycle, self._cycle, self._task = self._cycle, None, None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the application of a request failed", exc_info=error)
        if self._state is State.CLOSED or cycle is None:
            return
        self.flow.resume_reading()
        if cycle.response.progress is Progress.BODY:
            self.abort()
        elif cycle.response.progress is not Progress.COMPLETE:
            self._reject(BadRequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error"))
        elif self._stops or not cycle.response.keep_alive:
            if self._held or self._state is not State.RESPONDING:
                self._linger()
            else:
                self._close()
        elif self._state is State.BODY:
            self._state = State.LINGERING
            self._timer.start(self._limits.linger_s)
        else:
            self._await_request()

    def _await_request(self) -> None:
        self._state = State.IDLE
        self._timer.start(self._limits.idle_s)
        held, self._held = self._held, b""
        if held:
            self._advance(held)

    # The end.

    def _reject(self, error: BadRequestError) -> None:
        """Answer what no application answers."""
        headers, body = self._listener.rejection(error.status, error.message)
        response = ResponseWriter(method="GET", http_version="1.1", keep_alive=False)
        response.start(error.status, headers, self._listener.date)
        self._transport.write(response.body(body, more=False))
        self._linger()

    def _linger(self) -> None:
        """End this side. The connection closes when the caller ends its own, or after a while."""
        if not self._transport.can_write_eof():
            self._close()
            return
        self._state = State.CLOSING
        self._held = b""
        self._timer.start(self._limits.linger_s)
        self._transport.write_eof()

    def _close(self) -> None:
        """Close the connection when the caller has taken what waits to be sent, or after a while."""
        self._state = State.CLOSING
        self._held = b""
        self._timer.start(self._limits.idle_s)
        self._transport.close()

    def _expired(self) -> None:
        """The deadline of the state has passed."""
        if self._state is State.IDLE and not self._transport.get_write_buffer_size():
            self._close()
        else:
            self.abort()
