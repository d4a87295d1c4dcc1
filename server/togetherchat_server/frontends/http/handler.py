"""The edge between HTTP and the service: how a call is admitted, answered, ended and recorded.

The twin of the gRPC front's handler, over the same admission and the same sessions. Handlers
inside raise `ServiceError`; nothing but a fault of the table leaves here.

- A caller who is refused by its headers, or who has to wait for a place, has nothing of its
  body read.
- The status of a stream is sent with its first piece, so that what fails before has a status of
  its own; what fails later is an event of the stream.
- A caller who leaves cancels the task of its call: the connection does that. At the outermost
  frame, here, such a cancel ends in a plain return.
- A CancelledError that is not a cancel of the task (some library's own) is a defect, and the
  caller hears so: `Task.cancelling()` tells the two apart.
- While a write waits for its peer, no ending can be sent: the connection is cut off.
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
    """How long a peer may keep us waiting, in seconds, and how much it may send."""

    request_read_timeout_s: float
    write_timeout_s: float
    queue_timeout_s: float
    max_request_bytes: int


@final
class HttpCall:
    """One call between its first byte and its record."""

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
        self.call = sessions.refused(incoming)
        """Until it is opened: an id to be refused under."""
        self.caller = ""
        """What tells it from others, once it was let in."""
        self.closed = False
        self.messages_sent = 0
        self.queued_s = 0.0
        self.usage: chat.Usage | None = None
        self._sessions = sessions

    def open(self, seconds_left: float | None = None) -> Deadline:
        """Open the call, whose deadline rules inside of what is returned."""
        self.call = call = self._sessions.open(replace(self.incoming, seconds_left=seconds_left))
        call.progress.queued_s = self.queued_s
        return Deadline(
            self._sessions.seconds_left(call), call.deadline_reason, DEADLINE_MESSAGES[call.deadline_reason]
        )


Work = Callable[[HttpCall], Awaitable[None]]


@final
class HttpHandler:
    """Runs the calls of one front."""

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
        self._running: set[asyncio.Task[object]] = set()
        self._aborted: set[asyncio.Task[object]] = set()

    def abort_in_flight(self) -> None:
        """Cancel what runs: it ends as DRAINING, and says so."""
        self._aborted.update(self._running)
        for task in self._running:
            task.cancel()

    def refusal(self, exchange: Exchange, method: str) -> ErrorResponse | None:
        """What a caller's headers alone refuse, where its request is to be no call."""
        incoming = _incoming(exchange, method)
        try:
            self._sessions.check(incoming)
        except ServiceError as error:
            call = self._sessions.refused(incoming)
            return error_response(error, call, output_sent=False, fraction=self._random())
        return None

    async def run(self, exchange: Exchange, method: str, work: Work) -> None:
        """Run the work of one call, and end it in exactly one way."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  the connection runs every request in a task
        http_call = HttpCall(exchange, _incoming(exchange, method), self._sessions)
        self._running.add(task)
        try:
            await self._admitted(http_call, work)
        except ServiceError as error:
            # Time that is up after the last byte fails nothing.
            if not (exchange.finished and error.reason in DEADLINE_MESSAGES):
                await self._fail(http_call, error)
        except asyncio.CancelledError:
            await self._end_cancelled(http_call, task)
        except Exception:  # noqa: BLE001  the front's one broad except: see above
            _log.exception("call %s failed in an unforeseen way", http_call.call.id)
            await self._fail(http_call, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        finally:
            self._running.discard(task)
            self._aborted.discard(task)
        self._close(http_call, None)

    async def _admitted(self, http_call: HttpCall, work: Work) -> None:
        http_call.caller = self._sessions.check(http_call.incoming)
        self._auth_throttle.check(http_call.exchange.host, http_call.caller)
        permit = self._admission.enter(http_call.caller)
        try:
            if permit.turn is not None:
                await self._in_turn(http_call, permit.turn)
            await work(http_call)
            if http_call.call.progress.attempts:
                self._auth_throttle.served(http_call.caller)
        finally:
            self._admission.leave(permit)

    async def _in_turn(self, http_call: HttpCall, turn: asyncio.Future[None]) -> None:
        began_s = self._sessions.seconds_left(http_call.call)
        async with Deadline(self.limits.queue_timeout_s, Reason.OVERLOADED, QUEUE_TIMEOUT_MESSAGE):
            await turn
        http_call.queued_s = began_s - self._sessions.seconds_left(http_call.call)

    async def _end_cancelled(self, http_call: HttpCall, task: asyncio.Task[object]) -> None:
        """Decide who cancelled: nobody (a stray), the service (it drains), or the caller."""
        if not task.cancelling():
            _log.error("call %s was cancelled from within", http_call.call.id)
            await self._fail(http_call, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        elif task in self._aborted:
            task.uncancel()
            await self._fail(http_call, ServiceError(Reason.DRAINING, DRAINING_MESSAGE))
        else:
            http_call.exchange.connection.abort()
            self._close(http_call, Reason.CALLER_CANCELLED)

    async def _fail(self, http_call: HttpCall, error: ServiceError) -> None:
        """End the call with a fault, as a response or as the last event of a stream."""
        exchange = http_call.exchange
        error = self._auth_throttle.answer(exchange.host, http_call.caller, error)
        self._close(http_call, error.reason)
        if exchange.finished or exchange.stalled:
            exchange.connection.abort()
            return
        fault = error_response(error, http_call.call, output_sent=exchange.started, fraction=self._random())
        if exchange.started:
            await exchange.end(error_event(fault.body()))
        else:
            await exchange.answer(fault.status, (("content-type", JSON), *fault.headers), fault.body())

    def _close(self, http_call: HttpCall, reason: Reason | None) -> None:
        if http_call.closed:
            return
        http_call.closed = True
        ending = Outcome(
            code=str(ROWS[reason].status) if reason else "OK",
            reason=reason,
            messages_sent=http_call.messages_sent,
            usage=http_call.usage,
        )
        self._sessions.close(http_call.call, PROTOCOL, ending)


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
