"""The edge between gRPC and the service: the one place that knows the shapes of an RPC.

Owns how a call is admitted, answered, ended and recorded. Handlers inside raise
`ServiceError` and know no gRPC; nothing but a status of the table leaves here.

What grpcio's asyncio server does, and what follows (each measured on grpcio 1.85):

- The text of an exception that escapes a handler is sent to the caller. So everything is
  caught here, in the one broad `except` of the front.
- A generator handed to gRPC is closed by the event loop's finaliser, in another task, when
  the caller leaves during a write. So handlers' generators are consumed here under
  `aclosing`, and messages are sent with `context.write`.
- A caller who is refused by a handler that reads has its whole message buffered first. So
  refusals that need no message come from a stream-shaped handler that never reads.
- A caller who leaves during a write shows as an internal error of gRPC's, at any other
  time as a cancel. `context.cancelled()` is false in both.
- A CancelledError that is not a cancel of the task (some library's own) sends no status at
  all: the caller would wait for ever. `Task.cancelling()` tells the two apart.
- `time_remaining()` follows the wall clock: it is read once.
- While a write waits for its peer no ending can be sent: it is an error in gRPC, and a peer that
  comes back would wait for ever. So a write is not given up. After a while all that the call
  holds is given back, and the write alone goes on: when the peer takes it, it hears the end.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias, final

import grpc
from google.protobuf.message import Message
from grpc import aio

from togetherchat_server.calls.admission import Admission, Permit
from togetherchat_server.calls.auth_throttle import COUNTED, AuthThrottle
from togetherchat_server.calls.session import (
    DEADLINE_MESSAGES,
    DRAINING_MESSAGE,
    INTERNAL_ERROR_MESSAGE,
    QUEUE_TIMEOUT_MESSAGE,
    WRITE_TIMEOUT_MESSAGE,
    IncomingCall,
    Outcome,
    Sessions,
    response_metadata,
)
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.deadline import Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.grpc.in_flight import InFlightCalls, Task, current_task
from togetherchat_server.frontends.grpc.methods import UNPARSABLE, Method, Received, RpcState
from togetherchat_server.frontends.grpc.peer import host_of
from togetherchat_server.frontends.grpc.status import ROWS, status_of

PROTOCOL: Final = "grpc"

_log = logging.getLogger(__name__)

# Quoted: generic to a type checker, not to Python.
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Received, Message]"
Context: TypeAlias = "aio.ServicerContext[object, Message]"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcTimeouts:
    """How long a peer may keep us waiting, in seconds."""

    request_read_timeout_s: float
    write_timeout_s: float
    queue_timeout_s: float


@final
class GrpcHandler(grpc.GenericRpcHandler):
    """Serves a table of methods, full names such as `/togetherchat.v1.ChatService/Complete`."""

    def __init__(
        self,
        *,
        sessions: Sessions,
        admission: Admission,
        auth_throttle: AuthThrottle,
        limits: GrpcTimeouts,
        random: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._auth_throttle = auth_throttle
        self._admission = admission
        self._in_flight = InFlightCalls(
            admission, request_read_timeout_s=limits.request_read_timeout_s, take_s=limits.write_timeout_s
        )
        self._limits = limits
        self._random = random
        self._methods: dict[str, Method] = {}
        self._handlers: dict[str, RpcHandler] = {}

    def add(self, name: str, method: Method) -> None:
        self._methods[name] = method
        self._handlers[name] = self._at_once(name, method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "RpcHandler | None":
        """Called by gRPC in the task of the call, before anything of the message is read."""
        name = handler_call_details.method
        method = self._methods.get(name)
        if method is None:
            return None
        incoming = _incoming(name, handler_call_details.invocation_metadata)
        try:
            permit = self._admission.enter(self._sessions.check(incoming))
        except ServiceError as error:
            return self._refusal(incoming, error)
        self._in_flight.begin(permit, never_sent=lambda: self._never_sent(incoming))
        # The address of the peer is known to a handler alone: it is asked for it before it reads.
        if permit.turn is None and not self._auth_throttle.watching:
            return self._handlers[name]
        return self._in_turn(name, method, permit)

    def _at_once(self, name: str, method: Method) -> RpcHandler:
        """For a call that has a place: gRPC reads the request, and sends a whole answer."""

        async def handle(received: Received, context: Context) -> Message | None:
            async def work(state: RpcState) -> Message | None:
                return await method.respond(received, state, self._writer(context, state))

            response = await self._run(name, context, work)
            if response is not None:
                self._in_flight.answered()
            return response

        shape = (
            grpc.unary_stream_rpc_method_handler if method.streams else grpc.unary_unary_rpc_method_handler
        )
        return shape(handle, request_deserializer=method.parse, response_serializer=_serialised)

    def _in_turn(self, name: str, method: Method, permit: Permit) -> RpcHandler:
        """For a call that may have to wait: nothing of its message is read before its turn."""

        async def work(state: RpcState, context: Context) -> None:
            self._auth_throttle.check(host_of(context.peer()), permit.caller)
            write = self._writer(context, state)
            if permit.turn is not None:
                began_s = self._sessions.seconds_left(state.call)
                async with Deadline(self._limits.queue_timeout_s, Reason.OVERLOADED, QUEUE_TIMEOUT_MESSAGE):
                    await permit.turn
                state.call.progress.queued_s = began_s - self._sessions.seconds_left(state.call)
            async with Deadline(
                self._limits.request_read_timeout_s, Reason.CALLER_STALLED, "the caller sends no request"
            ):
                received = await context.read()
            response = await method.respond(
                received if isinstance(received, Message) else UNPARSABLE,
                state,
                write,
            )
            if response is not None:
                state.completed = True
                await write(response)

        async def handle(_requests: object, context: Context) -> None:
            await self._run(name, context, lambda state: work(state, context))

        return grpc.stream_stream_rpc_method_handler(
            handle, request_deserializer=method.parse, response_serializer=_serialised
        )

    def abort_in_flight(self) -> None:
        """Cancel what runs: it ends as DRAINING, with a status that says so."""
        self._in_flight.abort_all()

    def _never_sent(self, incoming: IncomingCall) -> None:
        self._close(RpcState(self._sessions.refused(incoming)), Reason.CALLER_STALLED)

    def _refusal(self, incoming: IncomingCall, error: ServiceError) -> RpcHandler:
        async def refuse(_requests: object, context: Context) -> None:
            call = self._sessions.refused(incoming)
            await self._abort(context, RpcState(call), error)

        return grpc.stream_stream_rpc_method_handler(refuse)

    async def _run(
        self, name: str, context: Context, work: Callable[[RpcState], Awaitable[Message | None]]
    ) -> Message | None:
        """Run the work of one call inside its deadline, and end the call in exactly one way."""
        self._in_flight.received()
        incoming = _incoming(name, context.invocation_metadata(), context.time_remaining())
        try:
            state = RpcState(self._sessions.open(incoming))
        except ServiceError as error:
            await self._abort(context, RpcState(self._sessions.refused(incoming)), error)
        response = None
        try:
            async with self._deadline(state.call):
                response = await work(state)
        except ServiceError as error:
            # Time that is up after `completed` fails nothing: see the law of streams.
            if not (state.completed and error.reason in DEADLINE_MESSAGES):
                await self._fail(context, state, error)
        except asyncio.CancelledError:
            await self._end_cancelled(context, state)
            raise
        except Exception:  # noqa: BLE001  the front's one broad except: see above
            _log.exception("call %s failed in an unforeseen way", state.call.id)
            await self._abort(context, state, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        context.set_trailing_metadata(response_metadata(state.call))
        if state.call.progress.attempts:
            self._auth_throttle.served(self._in_flight.caller())
        self._close(state, None)
        return response

    def _deadline(self, call: Call) -> Deadline:
        return Deadline(
            self._sessions.seconds_left(call), call.deadline_reason, DEADLINE_MESSAGES[call.deadline_reason]
        )

    def _writer(self, context: Context, state: RpcState) -> Callable[[Message], Awaitable[None]]:
        async def write(message: Message) -> None:
            task = current_task()
            timer = task.get_loop().call_later(self._limits.write_timeout_s, self._stalled, task, state)
            try:
                await context.write(message)
            except aio.InternalError as exc:
                raise ServiceError(Reason.CALLER_CANCELLED, "the caller left during a write") from exc
            finally:
                timer.cancel()
                if state.releasing is not None:  # a generator is closed once, and by one task
                    await asyncio.wait({state.releasing})
            if state.stalled:
                raise ServiceError(Reason.CALLER_STALLED, WRITE_TIMEOUT_MESSAGE)

        return write

    def _stalled(self, task: Task, state: RpcState) -> None:
        """Give back what a caller who reads nothing holds: all but the write that waits for it.

        Of a whole answer the last message alone is waiting: taken late, it is still whole.
        """
        self._in_flight.leave(task)
        if state.release is not None:
            state.releasing = asyncio.create_task(state.release())
        if not state.completed:
            state.stalled = True
            self._close(state, Reason.CALLER_STALLED)

    async def _end_cancelled(self, context: Context, state: RpcState) -> None:
        """Decide who cancelled: the service (it drains), nobody (a stray), or the caller."""
        task = current_task()
        if state.stalled:
            return
        if not task.cancelling():
            _log.error("call %s was cancelled from within", state.call.id)
            await self._abort(context, state, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        if self._in_flight.is_aborted(task):
            task.uncancel()
            await self._abort(context, state, ServiceError(Reason.DRAINING, DRAINING_MESSAGE))
        in_margin = self._sessions.seconds_left(state.call) <= 0
        self._close(state, state.call.deadline_reason if in_margin else Reason.CALLER_CANCELLED)

    async def _fail(self, context: Context, state: RpcState, error: ServiceError) -> NoReturn:
        """End the call with a status, unless nobody can hear it: the peer has gone or sends nothing,
        or what it did not take is still waiting for it.
        """
        taken = state.stalled and error.reason is Reason.CALLER_STALLED
        gone = error.reason in {Reason.CALLER_CANCELLED, Reason.CALLER_STALLED}
        if (gone or state.stalled) and not taken:
            self._close(state, error.reason)
            raise asyncio.CancelledError from error
        await self._abort(context, state, error)

    async def _abort(self, context: Context, state: RpcState, error: ServiceError) -> NoReturn:
        if error.reason in COUNTED:
            error = self._auth_throttle.answer(host_of(context.peer()), self._in_flight.caller(), error)
        status = status_of(
            error,
            state.call,
            output_sent=state.messages_sent > 0,
            seconds_left=self._sessions.seconds_left(state.call),
            fraction=self._random(),
        )
        self._close(state, error.reason)
        await context.abort(status.code, status.message, status.trailers)
        raise AssertionError  # unreachable: abort raises

    def _close(self, state: RpcState, reason: Reason | None) -> None:
        if state.closed:
            return
        state.closed = True
        code = ROWS[reason].code.name if reason else "OK"
        ending = Outcome(code=code, reason=reason, messages_sent=state.messages_sent, usage=state.usage)
        self._sessions.close(state.call, PROTOCOL, ending)


def _serialised(message: Message) -> bytes:
    return message.SerializeToString()


_HEADERS: Final = {
    "x-request-id": "request_id",
    "authorization": "authorization",
    "x-together-api-key": "together_key",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "grpc-previous-rpc-attempts": "previous_attempts",
}


def _incoming(
    method: str, metadata: Iterable[tuple[str, str | bytes]] | None, seconds_left: float | None = None
) -> IncomingCall:
    found: dict[str, str] = {}
    for key, value in metadata or ():
        name = _HEADERS.get(key)
        if name is not None and isinstance(value, str):
            # A header sent twice becomes a value that no check lets through.
            found[name] = f"{found[name]}, {value}" if name in found else value
    return IncomingCall(protocol=PROTOCOL, method=method, seconds_left=seconds_left, **found)
