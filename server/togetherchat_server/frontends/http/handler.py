"""The edge between HTTP and the service: how a call is admitted, answered, ended and recorded.

The twin of the gRPC front's boundary, over the same admission and the same desk. Handlers
inside raise `ServiceError`; nothing but a fault of the table leaves here.

- A caller who is refused by its headers, or who has to wait for a place, has nothing of its
  body read.
- The status of a stream is sent with its first piece, so that what fails before has a status of
  its own; what fails later is an event of the stream.
- A caller who leaves cancels the task of its call. uvicorn runs that task and takes any
  exception for a defect, a cancel too: so here, at its outermost frame, a cancel of the caller's
  ends in a plain return.
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

FRONT: Final = "http"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """How long a peer may keep us waiting, in seconds, and how much it may send."""

    request_s: float
    write_stall_s: float
    queue_s: float
    request_bytes_max: int


@final
class HttpCall:
    """One call between its first byte and its record."""

    __slots__ = (
        "_desk",
        "arrival",
        "call",
        "caller",
        "closed",
        "exchange",
        "messages_sent",
        "queued_s",
        "usage",
    )

    def __init__(self, exchange: Exchange, arrival: IncomingCall, desk: Sessions) -> None:
        self.exchange = exchange
        self.arrival = arrival
        self.call = desk.refused(arrival)
        """Until it is opened: an id to be refused under."""
        self.caller = ""
        """What tells it from others, once it was let in."""
        self.closed = False
        self.messages_sent = 0
        self.queued_s = 0.0
        self.usage: chat.Usage | None = None
        self._desk = desk

    def open(self, seconds_left: float | None = None) -> Deadline:
        """Open the call, whose deadline rules inside of what is returned."""
        self.call = call = self._desk.open(replace(self.arrival, seconds_left=seconds_left))
        call.progress.queued_s = self.queued_s
        return Deadline(
            self._desk.seconds_left(call), call.deadline_reason, DEADLINE_MESSAGES[call.deadline_reason]
        )


Work = Callable[[HttpCall], Awaitable[None]]


@final
class HttpHandler:
    """Runs the calls of one front."""

    def __init__(
        self,
        *,
        desk: Sessions,
        admission: Admission,
        failures: AuthThrottle,
        limits: HttpLimits,
        random: Callable[[], float],
    ) -> None:
        self.limits: Final = limits
        self._desk = desk
        self._admission = admission
        self._failures = failures
        self._random = random
        self._running: set[asyncio.Task[object]] = set()
        self._aborted: set[asyncio.Task[object]] = set()

    def abort_running(self) -> None:
        """Cancel what runs: it ends as DRAINING, and says so."""
        self._aborted.update(self._running)
        for task in self._running:
            task.cancel()

    def refusal(self, exchange: Exchange, method: str) -> ErrorResponse | None:
        """What a caller's headers alone refuse, where its request is to be no call."""
        arrival = _arrival(exchange, method)
        try:
            self._desk.check(arrival)
        except ServiceError as error:
            call = self._desk.refused(arrival)
            return error_response(error, call, output_sent=False, fraction=self._random())
        return None

    async def run(self, exchange: Exchange, method: str, work: Work) -> None:
        """Run the work of one call, and end it in exactly one way."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  uvicorn runs every request in a task
        visit = HttpCall(exchange, _arrival(exchange, method), self._desk)
        self._running.add(task)
        exchange.connection.on_lost = task.cancel
        try:
            await self._admitted(visit, work)
        except ServiceError as error:
            # Time that is up after the last byte fails nothing.
            if not (exchange.finished and error.reason in DEADLINE_MESSAGES):
                await self._fail(visit, error)
        except asyncio.CancelledError:
            await self._end_cancelled(visit, task)
        except Exception:  # noqa: BLE001  the front's one broad except: see above
            _log.exception("call %s failed in an unforeseen way", visit.call.id)
            await self._fail(visit, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        finally:
            exchange.connection.on_lost = None
            self._running.discard(task)
            self._aborted.discard(task)
        self._close(visit, None)

    async def _admitted(self, visit: HttpCall, work: Work) -> None:
        visit.caller = self._desk.check(visit.arrival)
        self._failures.check(visit.exchange.host, visit.caller)
        ticket = self._admission.enter(visit.caller)
        try:
            if ticket.turn is not None:
                await self._in_turn(visit, ticket.turn)
            await work(visit)
            if visit.call.progress.attempts:
                self._failures.served(visit.caller)
        finally:
            self._admission.leave(ticket)

    async def _in_turn(self, visit: HttpCall, turn: asyncio.Future[None]) -> None:
        began_s = self._desk.seconds_left(visit.call)
        async with Deadline(self.limits.queue_s, Reason.OVERLOADED, QUEUE_TIMEOUT_MESSAGE):
            await turn
        visit.queued_s = began_s - self._desk.seconds_left(visit.call)

    async def _end_cancelled(self, visit: HttpCall, task: asyncio.Task[object]) -> None:
        """Decide who cancelled: nobody (a stray), the service (it drains), or the caller."""
        if not task.cancelling():
            _log.error("call %s was cancelled from within", visit.call.id)
            await self._fail(visit, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        elif task in self._aborted:
            task.uncancel()
            await self._fail(visit, ServiceError(Reason.DRAINING, DRAINING_MESSAGE))
        else:
            visit.exchange.connection.abort()
            self._close(visit, Reason.CALLER_CANCELLED)

    async def _fail(self, visit: HttpCall, error: ServiceError) -> None:
        """End the call with a fault, as a response or as the last event of a stream."""
        exchange = visit.exchange
        error = self._failures.answer(exchange.host, visit.caller, error)
        self._close(visit, error.reason)
        if exchange.finished or exchange.connection.stalled:
            exchange.connection.abort()
            return
        fault = error_response(error, visit.call, output_sent=exchange.started, fraction=self._random())
        if exchange.started:
            await exchange.end(error_event(fault.body()))
        else:
            await exchange.answer(fault.status, (("content-type", JSON), *fault.headers), fault.body())

    def _close(self, visit: HttpCall, reason: Reason | None) -> None:
        if visit.closed:
            return
        visit.closed = True
        ending = Outcome(
            code=str(ROWS[reason].status) if reason else "OK",
            reason=reason,
            messages_sent=visit.messages_sent,
            usage=visit.usage,
        )
        self._desk.close(visit.call, FRONT, ending)


def _arrival(exchange: Exchange, method: str) -> IncomingCall:
    headers = exchange.headers
    return IncomingCall(
        front=FRONT,
        method=method,
        request_id=request_id_or_new(headers.get("x-request-id", "")),
        authorization=headers.get("authorization", ""),
        together_key=headers.get("x-together-api-key", ""),
        traceparent=headers.get("traceparent", ""),
        tracestate=headers.get("tracestate", ""),
        previous_attempts=headers.get("x-stainless-retry-count", ""),
    )
