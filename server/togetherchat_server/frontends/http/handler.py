"""HTTP handler: runs each call through its session, and sends its response or its error.

Only a response of the table in `openai/errors.py` leaves this module.

- The body of a call is read only after its headers are accepted.
- The status of a stream is sent with the first part of its body, which may be a heartbeat. So a failure
  before that has a status of its own; a later failure is an event of the stream, after which the
  connection closes without the end of the body.
- When a caller disconnects, its connection cancels the task of its call. Here, in the task's
  outermost frame, such a cancel ends in a plain return.
- While a write waits for its peer, no error can be sent: the connection is aborted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.calls.incoming import IncomingCall, Protocol
from togetherchat_server.calls.response_metadata import ResponseMetadata, request_id_or_new, response_metadata
from togetherchat_server.calls.session import Session
from togetherchat_server.calls.sessions import Sessions
from togetherchat_server.domain.identity import Scope
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.frontends.http.exchange import JSON, Exchange
from togetherchat_server.frontends.http.openai.errors import ROWS, ErrorResponse, error_response
from togetherchat_server.frontends.http.openai.sse import error_event

PROTOCOL: Final = Protocol(name="http", status_name=lambda error: str(ROWS[error.reason].status))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """How long the service and a peer wait for each other, in seconds, and how much a peer may send."""

    request_read_timeout_s: float
    write_timeout_s: float
    heartbeat_s: float | None
    """Longest silence of a stream; None: as long as the provider's."""
    max_request_bytes: int
    max_unread_bytes: int
    """Of the request bodies that are being received, all together."""


@final
class HttpCall:
    """One call: its session and its exchange."""

    __slots__ = ("exchange", "session")

    def __init__(self, exchange: Exchange, session: Session) -> None:
        self.exchange: Final = exchange
        self.session: Final = session

    async def respond(self, body: bytes, headers: ResponseMetadata = (), content_type: str = JSON) -> None:
        """Send the complete response of a call that succeeded."""
        await self.exchange.drained()
        self.session.sending_response()
        headers = (("content-type", content_type), *response_metadata(self.session.call), *headers)
        await self.exchange.respond(200, headers, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method as call records name it, and the scope that a caller needs."""

    name: str
    scope: Scope


Endpoint = Callable[[HttpCall], Awaitable[None]]
"""Reads the request of a call, runs it in its session, and writes the response."""


@final
class HttpHandler:
    """Runs the calls of the HTTP frontend."""

    def __init__(self, *, sessions: Sessions, limits: HttpLimits, random: Callable[[], float]) -> None:
        self.limits: Final = limits
        self._sessions = sessions
        self._random = random

    async def rejection(self, exchange: Exchange, operation: Operation) -> ErrorResponse | None:
        """Authenticate a request that is not recorded as a call. Return the error; None if it may proceed."""
        session = self._sessions.open(_incoming(exchange, operation))
        session.set_peer(exchange.host)
        error = await session.authenticate(exchange.connection.client_certificate())
        if error is None:
            return None
        return error_response(error, session.call, output_sent=False, fraction=self._random())

    async def run(self, exchange: Exchange, operation: Operation, endpoint: Endpoint) -> None:
        """Run one call to its end."""
        session = self._sessions.open(_incoming(exchange, operation))
        session.set_peer(exchange.host)

        async def work() -> None:
            session.admit()
            if session.peer_check_needed:
                await session.check_peer(exchange.connection.client_certificate())
            await endpoint(HttpCall(exchange, session))

        try:
            error = await session.run(work)
        except asyncio.CancelledError:
            exchange.connection.abort()
            return
        if error is not None:
            await self._send_error(exchange, session, error)

    async def _send_error(self, exchange: Exchange, session: Session, error: ServiceError) -> None:
        """Send an error, as a response or as the last event of a stream."""
        if exchange.finished or exchange.stalled:
            exchange.connection.abort()
            return
        response = error_response(error, session.call, output_sent=exchange.started, fraction=self._random())
        if exchange.started:
            await exchange.break_off(error_event(response.body()))
        else:
            await exchange.respond(
                response.status, (("content-type", JSON), *response.headers), response.body()
            )


def _incoming(exchange: Exchange, operation: Operation) -> IncomingCall:
    headers = exchange.headers
    return IncomingCall(
        protocol=PROTOCOL,
        method=operation.name,
        scope=operation.scope,
        request_id=request_id_or_new(headers.get("x-request-id", "")),
        authorization=headers.get("authorization", ""),
        together_key=headers.get("x-together-api-key", ""),
        forwarded_for=headers.get("x-forwarded-for", ""),
        adapt_reasoning_effort=headers.get("x-adapt-reasoning-effort", ""),
        together_debug=headers.get("x-together-debug", ""),
        priority=headers.get("x-priority", ""),
        traceparent=headers.get("traceparent", ""),
        tracestate=headers.get("tracestate", ""),
        previous_attempts=headers.get("x-stainless-retry-count", ""),
    )
