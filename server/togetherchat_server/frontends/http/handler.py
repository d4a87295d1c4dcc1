"""HTTP handler: admits, runs and finishes each call, and maps every error to a response.

Uses the same admission control and sessions as the gRPC handler. The endpoints that it runs raise
`ServiceError`; only a response of the table in `openai/errors.py` leaves this module.

- The body of a call is read only after its headers are accepted and its permit is granted.
- The status of a stream is sent with the first part of its body. So a failure before that has a
  status of its own; a later failure is an event of the stream.
- When a caller disconnects, its connection cancels the task of its call. Here, in the task's
  outermost frame, such a cancel ends in a plain return.
- A CancelledError that is not a cancel of the task (raised by some library) is a defect, and the
  caller gets INTERNAL_ERROR. `Task.cancelling()` distinguishes the two.
- While a write waits for its peer, no error can be sent: the connection is aborted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.calls.admission import Admission
from togetherchat_server.calls.auth_throttle import AuthThrottle
from togetherchat_server.calls.session import (
    DEADLINE_MESSAGES,
    DRAINING_MESSAGE,
    INTERNAL_ERROR_MESSAGE,
    QUEUE_TIMEOUT_MESSAGE,
    IncomingCall,
    Outcome,
    Sessions,
    request_id_or_new,
)
from togetherchat_server.domain.deadline import Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.http.exchange import JSON, Exchange
from togetherchat_server.frontends.http.openai.errors import ROWS, ErrorResponse, error_response
from togetherchat_server.frontends.http.openai.sse import error_event

PROTOCOL: Final = "http"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """How long the service waits for a peer, in seconds, and how much a peer may send."""

    request_read_timeout_s: float
    write_timeout_s: float
    queue_timeout_s: float
    max_request_bytes: int


@final
class HttpCall:
    """The state of one call, from its first byte to its call record."""

    __slots__ = (
        "_sessions",
        "call",
        "caller",
        "closed",
        "exchange",
        "incoming",
        "messages_sent",
        "queued_s",
        "usage",
    )

    def __init__(self, exchange: Exchange, incoming: IncomingCall, sessions: Sessions) -> None:
        self.exchange = exchange
        self.incoming = incoming
        self.call = sessions.rejected(incoming)
        """Until the call is opened, a call that can only be rejected."""
        self.caller = ""
        """Identifies the caller to admission control; set after authentication."""
        self.closed = False
        self.messages_sent = 0
        self.queued_s = 0.0
        self.usage: chat.Usage | None = None
        self._sessions = sessions

    def open(self, seconds_left: float | None = None) -> Deadline:
        """Open the call, and return its deadline as a context for the work."""
        self.call = call = self._sessions.open(replace(self.incoming, seconds_left=seconds_left))
        call.progress.queued_s = self.queued_s
        return Deadline(
            self._sessions.seconds_left(call), call.deadline_reason, DEADLINE_MESSAGES[call.deadline_reason]
        )


Work = Callable[[HttpCall], Awaitable[None]]


@final
class HttpHandler:
    """Runs the calls of the HTTP frontend."""

    def __init__(
        self,
        *,
        sessions: Sessions,
        admission: Admission,
        auth_throttle: AuthThrottle,
        limits: HttpLimits,
        random: Callable[[], float],
    ) -> None:
        self.limits: Final = limits
        self._sessions = sessions
        self._admission = admission
        self._auth_throttle = auth_throttle
        self._random = random
        self._in_flight: set[asyncio.Task[object]] = set()
        self._aborted: set[asyncio.Task[object]] = set()

    def abort_in_flight(self) -> None:
        """Cancel the calls in flight: each fails with DRAINING."""
        self._aborted.update(self._in_flight)
        for task in self._in_flight:
            task.cancel()

    def rejection(self, exchange: Exchange, method: str) -> ErrorResponse | None:
        """Authenticate a request that is not recorded as a call. Return the error; None if it may proceed."""
        incoming = _incoming(exchange, method)
        try:
            self._sessions.check(incoming)
        except ServiceError as error:
            call = self._sessions.rejected(incoming)
            return error_response(error, call, output_sent=False, fraction=self._random())
        return None

    async def run(self, exchange: Exchange, method: str, work: Work) -> None:
        """Run the work of one call, and end it in exactly one way."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  the connection runs every request in a task
        http_call = HttpCall(exchange, _incoming(exchange, method), self._sessions)
        self._in_flight.add(task)
        try:
            await self._admitted(http_call, work)
        except ServiceError as error:
            # A deadline that passes after the last byte is not a failure.
            if not (exchange.finished and error.reason in DEADLINE_MESSAGES):
                await self._fail(http_call, error)
        except asyncio.CancelledError:
            await self._end_cancelled(http_call, task)
        except Exception:  # noqa: BLE001  this frontend's one broad except: see above
            _log.exception("call %s failed with an unexpected exception", http_call.call.id)
            await self._fail(http_call, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        finally:
            self._in_flight.discard(task)
            self._aborted.discard(task)
        self._close(http_call, None)

    async def _admitted(self, http_call: HttpCall, work: Work) -> None:
        http_call.caller = self._sessions.check(http_call.incoming)
        self._auth_throttle.check(http_call.exchange.host, http_call.caller)
        permit = self._admission.acquire(http_call.caller)
        try:
            if permit.granted is not None:
                await self._wait_in_queue(http_call, permit.granted)
            await work(http_call)
            if http_call.call.progress.attempts:
                self._auth_throttle.record_success(http_call.caller)
        finally:
            self._admission.release(permit)

    async def _wait_in_queue(self, http_call: HttpCall, granted: asyncio.Future[None]) -> None:
        began_s = self._sessions.seconds_left(http_call.call)
        async with Deadline(self.limits.queue_timeout_s, Reason.OVERLOADED, QUEUE_TIMEOUT_MESSAGE):
            await granted
        http_call.queued_s = began_s - self._sessions.seconds_left(http_call.call)

    async def _end_cancelled(self, http_call: HttpCall, task: asyncio.Task[object]) -> None:
        """Handle a cancel: of the service (it drains), of the caller, or not of the task at all."""
        if not task.cancelling():
            _log.error(
                "call %s: a CancelledError was raised, but its task was not cancelled", http_call.call.id
            )
            await self._fail(http_call, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        elif task in self._aborted:
            task.uncancel()
            await self._fail(http_call, ServiceError(Reason.DRAINING, DRAINING_MESSAGE))
        else:
            http_call.exchange.connection.abort()
            self._close(http_call, Reason.CALLER_CANCELLED)

    async def _fail(self, http_call: HttpCall, error: ServiceError) -> None:
        """End the call with an error, as a response or as the last event of a stream."""
        exchange = http_call.exchange
        error = self._auth_throttle.record_failure(exchange.host, http_call.caller, error)
        self._close(http_call, error.reason)
        if exchange.finished or exchange.stalled:
            exchange.connection.abort()
            return
        response = error_response(
            error, http_call.call, output_sent=exchange.started, fraction=self._random()
        )
        if exchange.started:
            await exchange.end(error_event(response.body()))
        else:
            await exchange.respond(
                response.status, (("content-type", JSON), *response.headers), response.body()
            )

    def _close(self, http_call: HttpCall, reason: Reason | None) -> None:
        if http_call.closed:
            return
        http_call.closed = True
        outcome = Outcome(
            code=str(ROWS[reason].status) if reason else "OK",
            reason=reason,
            messages_sent=http_call.messages_sent,
            usage=http_call.usage,
        )
        self._sessions.close(http_call.call, PROTOCOL, outcome)


def _incoming(exchange: Exchange, method: str) -> IncomingCall:
    headers = exchange.headers
    return IncomingCall(
        protocol=PROTOCOL,
        method=method,
        request_id=request_id_or_new(headers.get("x-request-id", "")),
        authorization=headers.get("authorization", ""),
        together_key=headers.get("x-together-api-key", ""),
        traceparent=headers.get("traceparent", ""),
        tracestate=headers.get("tracestate", ""),
        previous_attempts=headers.get("x-stainless-retry-count", ""),
    )
