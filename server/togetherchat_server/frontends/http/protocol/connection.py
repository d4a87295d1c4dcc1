"""HTTP/1.1 on one connection of a client, with asyncio and llhttp.

A connection reads one request, runs the application for it, and parses the next request after the
application has returned. So one request, one task and one response exist at a time, and responses are
sent in the order of the requests, even if the client pipelines. Bytes that arrive too early are
buffered unparsed.

`state` has the states and what ends them.

Every state in which no application is running has a timeout. A running application has its own
timeouts, and is cancelled when the client disconnects: asyncio reports the loss of the connection even
while the application reads nothing. To detect it, the connection keeps reading until it has buffered
`buffered_bytes_max` bytes of an unread body or of further requests. Then it stops reading, and only
the next write detects a disconnect.

A client that half-closes the connection while an application is running is treated as disconnected: no
client library does that.

Closing a connection with unread input sends a reset, which can destroy the last response on its way.
So the connection half-closes and discards input for `linger_s` (RFC 9112 9.6). With TLS, asyncio
cannot half-close, and the connection is closed immediately.
"""

import asyncio
import logging
import ssl
from http import HTTPStatus
from typing import Final, cast, final

from togetherchat_server.frontends.http.protocol.cycle import Cycle, connection_scope, request_scope
from togetherchat_server.frontends.http.protocol.flow_control import FlowControl
from togetherchat_server.frontends.http.protocol.listener import ListenerState
from togetherchat_server.frontends.http.protocol.proxy_header import ProxyHeader
from togetherchat_server.frontends.http.protocol.request_body import BadRequestError, Body
from togetherchat_server.frontends.http.protocol.request_head import RequestHead
from togetherchat_server.frontends.http.protocol.response_writer import ResponseProgress, ResponseWriter
from togetherchat_server.frontends.http.protocol.state import RUNNING, State
from togetherchat_server.frontends.lazy_timer import LazyTimer

CONNECTION: Final = "connection"
"""Key of `scope["state"]` that holds the `Connection`. With it an application can do what ASGI has no
message for: check whether the request is complete, wait until the client reads, and abort.
"""

_log = logging.getLogger(__name__)


@final
class Connection(asyncio.BufferedProtocol):
    """The asyncio protocol of one connection."""

    def __init__(self, listener: ListenerState) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._loop = asyncio.get_running_loop()
        self._timer = LazyTimer(self._loop, self._on_timeout)
        self._state = State.IDLE
        self._proxy_header: ProxyHeader | None = None
        self._head: RequestHead | None = None
        self._body: Body | None = None
        self._cycle: Cycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._pipelined = b""
        """Unparsed bytes of further requests."""
        self._closes_after_response = False
        self._served = False
        """Whether a request was accepted: its sender is not a stranger."""
        self.body_problem = ""
        """Why the body is malformed; empty if it is not."""

    # Called by the exchange.

    @property
    def request_complete(self) -> bool:
        """Whether the whole request has been received."""
        return self._state is State.RESPONDING

    def client_certificate(self) -> bytes | None:
        """Return the peer's certificate in DER; None if it presented none."""
        session = cast("ssl.SSLObject | None", self._transport.get_extra_info("ssl_object"))
        return None if session is None else session.getpeercert(binary_form=True)

    def abort(self) -> None:
        """Close the connection immediately and discard unsent bytes."""
        self._state = State.CLOSED
        self._transport.abort()

    # Called by the server.

    def close_after_response(self) -> None:
        """Close after the request in flight, or after the next one; its response announces the close."""
        self._closes_after_response = True
        if self._cycle is not None:
            self._cycle.response.keep_alive = False

    def shutdown(self) -> None:
        """Close after the request in flight; immediately if there is none."""
        if self._state in RUNNING:
            self.close_after_response()
        elif self._state is State.LINGERING:
            self._linger()
        elif self._state in {State.PROXY, State.IDLE, State.HEAD}:
            self._close()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.flow = FlowControl(self._transport)
        if not self._listener.opened(self):
            self.abort()
            return
        self._scope = connection_scope(self._transport)
        proxies = self._listener.proxies
        if proxies is not None and proxies.trusts(self._scope["client"][0]):
            self._state, self._proxy_header = State.PROXY, ProxyHeader()
        self._listener.awaits_request(self, served=False)
        self._timer.start(self._limits.head_s)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        return self._listener.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._advance(bytes(self._listener.read_buffer[:nbytes]))

    def eof_received(self) -> None:
        """Handle a half-close by the client. asyncio closes the connection, since this returns None."""
        if self._state in RUNNING:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._state = State.CLOSED
        self._timer.close()
        self.flow.unstall()
        self._pipelined = b""
        if self._cycle is not None:
            self._cycle.disconnect()
        if self._task is not None:
            self._task.cancel()
        self._listener.closed(self)

    def pause_writing(self) -> None:
        self.flow.stall()

    def resume_writing(self) -> None:
        self.flow.unstall()

    # Requests.

    def _advance(self, rest: bytes | None) -> None:
        """Process received bytes, each as its state requires."""
        while rest:
            match self._state:
                case State.PROXY:
                    rest = self._read_proxy_header(rest)
                case State.IDLE | State.HEAD:
                    rest = self._read_head(rest)
                case State.BODY | State.LINGERING:
                    rest = self._read_body(rest)
                case State.RESPONDING:
                    self._buffer_pipelined(rest)
                    return
                case State.BROKEN | State.CLOSING | State.CLOSED:
                    return

    def _read_proxy_header(self, data: bytes) -> bytes | None:
        header = self._proxy_header
        assert header is not None  # noqa: S101  this state has one
        try:
            rest = header.feed(data)
        except BadRequestError as error:
            self._reject(error)
            return None
        if rest is not None:
            self._proxy_header = None
            self._state = State.IDLE
            if header.client is not None:
                self._scope["client"] = header.client
        return rest

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
        """Run the application for a request whose head is complete."""
        self._listener.begins_request(self)
        self._body = head.body
        self._state = State.RESPONDING if head.body is None else State.BODY
        self._cycle = cycle = Cycle(head, self.flow, self._listener)
        if self._closes_after_response:
            self.close_after_response()
        scope = request_scope(self._scope, head, {CONNECTION: self})
        self._task = task = self._loop.create_task(cycle.run(self._listener.application, scope))
        self._listener.tasks.add(task)
        task.add_done_callback(self._on_application_done)

    def _read_body(self, data: bytes) -> bytes | None:
        cycle, body = self._cycle, self._body
        assert body is not None  # noqa: S101  these states have one
        try:
            piece, rest = body.feed(data)
        except BadRequestError as error:
            self._fail_body(error.message)
            return None
        if cycle is not None and piece:
            cycle.add(piece)
            if cycle.unread_bytes > self._limits.buffered_bytes_max and not cycle.body_awaited:
                self.flow.pause_reading()
        if rest is not None:
            if cycle is None:
                self._await_request()
            else:
                self._state = State.RESPONDING
                cycle.complete()
        return rest

    def _fail_body(self, problem: str) -> None:
        """End a request with a malformed body. The start of the next request cannot be known."""
        if self._cycle is None:
            self._linger()
            return
        self.body_problem = problem
        self._state = State.BROKEN
        self._cycle.response.keep_alive = False
        self._cycle.disconnect()

    def _buffer_pipelined(self, data: bytes) -> None:
        """Buffer the bytes of further requests until the application has returned."""
        self._pipelined += data
        if len(self._pipelined) > self._limits.buffered_bytes_max:
            self.flow.pause_reading()

    def _on_application_done(self, task: asyncio.Task[None]) -> None:
        """Handle the end of the application: returned, failed or cancelled."""
        self._listener.tasks.discard(task)
        cycle, self._cycle, self._task = self._cycle, None, None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("the ASGI application raised an exception", exc_info=error)
        if self._state is State.CLOSED or cycle is None:
            return
        self._served = self._served or cycle.response.status < HTTPStatus.BAD_REQUEST
        self._listener.awaits_request(self, served=self._served)
        self.flow.resume_reading()
        progress = cycle.response.progress
        incomplete = progress is ResponseProgress.BODY
        if incomplete and (task.cancelled() or error is not None):
            self.abort()
        elif not incomplete and progress is not ResponseProgress.COMPLETE:
            self._reject(BadRequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error"))
        elif incomplete and not self._closes_after_response:
            self._await_close()
        elif incomplete or self._closes_after_response or not cycle.response.keep_alive:
            if self._pipelined or self._state is not State.RESPONDING:
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
        pipelined, self._pipelined = self._pipelined, b""
        if pipelined:
            self._advance(pipelined)

    # Closing.

    def _reject(self, error: BadRequestError) -> None:
        """Send the response of a request that no application handles, and close."""
        headers, body = self._listener.rejection(error.status, error.message)
        response = ResponseWriter(method="GET", http_version="1.1", keep_alive=False)
        response.start(error.status, headers, self._listener.date)
        self._transport.write(response.body(body, more=False))
        self._linger()

    def _linger(self) -> None:
        """Half-close. The connection closes when the client closes too, or after `linger_s`."""
        if not self._transport.can_write_eof():
            self._close()
            return
        self._state = State.CLOSING
        self._pipelined = b""
        self._timer.start(self._limits.linger_s)
        self._transport.write_eof()

    def _await_close(self) -> None:
        """Wait until the client closes after a body without an end, and abort after `linger_s`.

        A client that reads slowly has not read the body yet. WHATWG streams (fetch) discard what is unread
        when the connection closes, the event with the failure included.
        """
        self._state = State.CLOSING
        self._pipelined = b""
        self._timer.start(self._limits.linger_s)

    def _close(self) -> None:
        """Close after the client has read the unsent bytes, or abort after `close_s`."""
        self._state = State.CLOSING
        self._pipelined = b""
        self._timer.start(self._limits.close_s)
        self._transport.close()

    def _on_timeout(self) -> None:
        """Handle the timeout of the current state."""
        if self._state is State.IDLE and not self._transport.get_write_buffer_size():
            self._close()
        else:
            self.abort()
