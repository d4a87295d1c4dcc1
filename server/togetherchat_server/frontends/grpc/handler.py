"""gRPC handler: admits, runs and finishes each RPC, and maps every error to a status.

The methods that it serves raise `ServiceError` and know no gRPC; only a status of the table in
`status.py` leaves this module.

How grpcio's asyncio server behaves, and what follows from it (each measured on grpcio 1.85):

- The text of an exception that escapes a handler is sent to the caller. So every exception is
  caught here, in the one broad `except` of this frontend.
- If the caller disconnects during a write, a generator returned to gRPC is closed by the event loop's
  finaliser, in another task. So the methods' generators are consumed here under `aclosing`, and
  messages are sent with `context.write`.
- A handler that reads buffers the whole message before it can reject the caller. So rejections that
  need no message come from a stream-shaped handler that never reads.
- A caller that disconnects during a write causes an internal error of gRPC; at any other time, a
  cancel. `context.cancelled()` is false in both cases.
- A CancelledError that is not a cancel of the task (raised by some library) sends no status at all:
  the caller would wait for ever. `Task.cancelling()` distinguishes the two.
- `time_remaining()` follows the wall clock: it is read once.
- While a write waits for its peer, no status can be sent: gRPC raises an error, and a peer that
  resumes reading would wait for ever. So a write is never cancelled. After the write timeout the
  call's resources are released and only the write continues: a peer that then reads the message
  receives the status after it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias, final

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
from togetherchat_server.frontends.grpc.incoming import PROTOCOL, incoming_call
from togetherchat_server.frontends.grpc.methods import UNPARSABLE, Method, Received, RpcState, serialise
from togetherchat_server.frontends.grpc.peer import host_of
from togetherchat_server.frontends.grpc.status import CODES, status_of

_log = logging.getLogger(__name__)

# Quoted: generic to a type checker, not to Python.
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Received, Message]"
Context: TypeAlias = "aio.ServicerContext[object, Message]"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcTimeouts:
    """How long the service waits for a peer, in seconds."""

    request_read_timeout_s: float
    write_timeout_s: float
    queue_timeout_s: float


@final
class GrpcHandler(grpc.GenericRpcHandler):
    """Serves methods by their full names, such as `/togetherchat.v1.ChatService/Complete`."""

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
            admission,
            request_read_timeout_s=limits.request_read_timeout_s,
            write_timeout_s=limits.write_timeout_s,
        )
        self._limits = limits
        self._random = random
        self._methods: dict[str, Method] = {}
        self._handlers: dict[str, RpcHandler] = {}

    def add(self, name: str, method: Method) -> None:
        self._methods[name] = method
        self._handlers[name] = self._immediate_handler(name, method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "RpcHandler | None":
        """Return the handler of a call. gRPC calls this in the call's task, before it reads the message."""
        name = handler_call_details.method
        method = self._methods.get(name)
        if method is None:
            return None
        incoming = incoming_call(name, handler_call_details.invocation_metadata)
        try:
            permit = self._admission.acquire(self._sessions.check(incoming))
        except ServiceError as error:
            return self._rejection_handler(incoming, error)
        self._in_flight.begin(permit, on_read_timeout=lambda: self._close_unsent(incoming))
        # Only a handler knows the peer's address: the auth throttle checks it before the handler reads.
        if permit.granted is None and not self._auth_throttle.active:
            return self._handlers[name]
        return self._reading_handler(name, method, permit)

    def _immediate_handler(self, name: str, method: Method) -> RpcHandler:
        """Handle a call whose permit is granted: gRPC reads the request and sends a unary response."""

        async def handle(received: Received, context: Context) -> Message | None:
            async def work(state: RpcState) -> Message | None:
                return await method.respond(received, state, self._writer(context, state))

            response = await self._run(name, context, work)
            if response is not None:
                self._in_flight.response_returned()
            return response

        shape = (
            grpc.unary_stream_rpc_method_handler if method.streams else grpc.unary_unary_rpc_method_handler
        )
        return shape(handle, request_deserializer=method.parse, response_serializer=serialise)

    def _reading_handler(self, name: str, method: Method, permit: Permit) -> RpcHandler:
        """Handle a call that may have to wait: its message is read after its permit is granted."""

        async def work(state: RpcState, context: Context) -> None:
            self._auth_throttle.check(host_of(context.peer()), permit.caller)
            write = self._writer(context, state)
            if permit.granted is not None:
                began_s = self._sessions.seconds_left(state.call)
                async with Deadline(self._limits.queue_timeout_s, Reason.OVERLOADED, QUEUE_TIMEOUT_MESSAGE):
                    await permit.granted
                state.call.progress.queued_s = began_s - self._sessions.seconds_left(state.call)
            async with Deadline(
                self._limits.request_read_timeout_s,
                Reason.CALLER_STALLED,
                "the caller sent no request within the request read timeout",
            ):
                received = await context.read()
            request = received if isinstance(received, Message) else UNPARSABLE
            response = await method.respond(request, state, write)
            if response is not None:
                state.completed = True
                await write(response)

        async def handle(_requests: object, context: Context) -> None:
            await self._run(name, context, lambda state: work(state, context))

        return grpc.stream_stream_rpc_method_handler(
            handle, request_deserializer=method.parse, response_serializer=serialise
        )

    def abort_in_flight(self) -> None:
        """Cancel the calls in flight: each fails with the status of DRAINING."""
        self._in_flight.abort_all()

    def _close_unsent(self, incoming: IncomingCall) -> None:
        """Record a call whose request never arrived. Its handler has not started, so it sends no status."""
        self._close(RpcState(self._sessions.rejected(incoming)), Reason.CALLER_STALLED)

    def _rejection_handler(self, incoming: IncomingCall, error: ServiceError) -> RpcHandler:
        async def reject(_requests: object, context: Context) -> None:
            call = self._sessions.rejected(incoming)
            await self._abort(context, RpcState(call), error)

        return grpc.stream_stream_rpc_method_handler(reject)

    async def _run(
        self, name: str, context: Context, work: Callable[[RpcState], Awaitable[Message | None]]
    ) -> Message | None:
        """Run the work of one call inside its deadline, and end the call in exactly one way."""
        self._in_flight.request_received()
        incoming = incoming_call(name, context.invocation_metadata(), context.time_remaining())
        try:
            state = RpcState(self._sessions.open(incoming))
        except ServiceError as error:
            await self._abort(context, RpcState(self._sessions.rejected(incoming)), error)
        response = None
        try:
            async with self._deadline(state.call):
                response = await work(state)
        except ServiceError as error:
            # A deadline that passes after `completed` is not a failure: see the stream guarantees.
            if not (state.completed and error.reason in DEADLINE_MESSAGES):
                await self._fail(context, state, error)
        except asyncio.CancelledError:
            await self._end_cancelled(context, state)
            raise
        except Exception:  # noqa: BLE001  this frontend's one broad except: see above
            _log.exception("call %s failed with an unexpected exception", state.call.id)
            await self._abort(context, state, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        context.set_trailing_metadata(response_metadata(state.call))
        if state.call.progress.attempts:
            self._auth_throttle.record_success(self._in_flight.caller())
        self._close(state, None)
        return response

    def _deadline(self, call: Call) -> Deadline:
        return Deadline(
            self._sessions.seconds_left(call), call.deadline_reason, DEADLINE_MESSAGES[call.deadline_reason]
        )

    def _writer(self, context: Context, state: RpcState) -> Callable[[Message], Awaitable[None]]:
        async def write(message: Message) -> None:
            task = current_task()
            timer = task.get_loop().call_later(
                self._limits.write_timeout_s, self._on_write_timeout, task, state
            )
            try:
                await context.write(message)
            except aio.InternalError as exc:
                raise ServiceError(Reason.CALLER_CANCELLED, "the caller disconnected during a write") from exc
            finally:
                timer.cancel()
                if state.releasing is not None:  # a generator is closed once, and by one task
                    await asyncio.wait({state.releasing})
            if state.stalled:
                raise ServiceError(Reason.CALLER_STALLED, WRITE_TIMEOUT_MESSAGE)

        return write

    def _on_write_timeout(self, task: Task, state: RpcState) -> None:
        """Release the resources of a call whose client stopped reading. The pending write is kept.

        If only the last message of a completed response is pending, the call is not a failure: the
        response is complete when the client reads it, however late.
        """
        self._in_flight.release(task)
        if state.release is not None:
            state.releasing = asyncio.create_task(state.release())
        if not state.completed:
            state.stalled = True
            self._close(state, Reason.CALLER_STALLED)

    async def _end_cancelled(self, context: Context, state: RpcState) -> None:
        """Handle a cancel: of the service (it drains), of the caller, or not of the task at all."""
        task = current_task()
        if state.stalled:
            return
        if not task.cancelling():
            _log.error("call %s: a CancelledError was raised, but its task was not cancelled", state.call.id)
            await self._abort(context, state, ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        if self._in_flight.is_aborted(task):
            task.uncancel()
            await self._abort(context, state, ServiceError(Reason.DRAINING, DRAINING_MESSAGE))
        in_margin = self._sessions.seconds_left(state.call) <= 0
        self._close(state, state.call.deadline_reason if in_margin else Reason.CALLER_CANCELLED)

    async def _fail(self, context: Context, state: RpcState, error: ServiceError) -> NoReturn:
        """End the call with a status, unless the peer cannot receive one.

        That is a peer that has disconnected or sends nothing, or one that has not read the pending write.
        """
        read_late = state.stalled and error.reason is Reason.CALLER_STALLED
        unreachable = error.reason in {Reason.CALLER_CANCELLED, Reason.CALLER_STALLED}
        if (unreachable or state.stalled) and not read_late:
            self._close(state, error.reason)
            raise asyncio.CancelledError from error
        await self._abort(context, state, error)

    async def _abort(self, context: Context, state: RpcState, error: ServiceError) -> NoReturn:
        if error.reason in COUNTED:
            error = self._auth_throttle.record_failure(
                host_of(context.peer()), self._in_flight.caller(), error
            )
        status = status_of(
            error,
            state.call,
            output_sent=state.messages_sent > 0,
            seconds_left=self._sessions.seconds_left(state.call),
            fraction=self._random(),
        )
        self._close(state, error.reason, status.code)
        await context.abort(status.code, status.message, status.trailers)
        raise AssertionError  # unreachable: abort raises

    def _close(self, state: RpcState, reason: Reason | None, code: grpc.StatusCode | None = None) -> None:
        if state.closed:
            return
        state.closed = True
        name = (code or CODES[reason]).name if reason else "OK"
        outcome = Outcome(code=name, reason=reason, messages_sent=state.messages_sent, usage=state.usage)
        self._sessions.close(state.call, PROTOCOL, outcome)
