"""gRPC handler: runs each RPC through its session, and sends its response or its status.

Only a status of the table in `status.py` leaves this module.

How grpcio's asyncio server behaves, and what follows from it (each measured on grpcio 1.85):

- The text of an exception that escapes a handler is sent to the caller. So `Session.run` maps every
  exception to an error.
- If the caller disconnects during a write, a generator returned to gRPC is closed by the event loop's
  finaliser, in another task. So streams are consumed here, and messages are sent with `context.write`.
- A handler whose requests are not a stream is called with a message, and if the peer sends none, not at
  all: the peer would never get a status. So every handler reads its message itself, and one that
  rejects a call never reads.
- A caller that disconnects during a write causes an internal error of gRPC; at any other time, a
  cancel. `context.cancelled()` is false in both cases.
- A caller that disconnects before the handler's first step cancels the task: no handler runs. So the
  session releases what it holds when the task ends.
- `time_remaining()` follows the wall clock: it is read once.
- While a write waits for its peer, no status can be sent: gRPC raises an error, and a peer that
  resumes reading would wait for ever. So a write is never cancelled. After the write timeout the
  call's resources are released and only the write continues: a peer that then reads the message
  receives the status after it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, TypeAlias, cast, final

import grpc
from google.protobuf.message import Message
from grpc import aio

from togetherchat_server.calls.response_metadata import response_metadata
from togetherchat_server.calls.session import Session
from togetherchat_server.calls.session_stream import SessionStream
from togetherchat_server.calls.sessions import Sessions
from togetherchat_server.domain.deadline import WRITE_TIMEOUT_MESSAGE
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.grpc.incoming import incoming_call
from togetherchat_server.frontends.grpc.methods import Method, Received, serialise
from togetherchat_server.frontends.grpc.peer import certificate_of, host_of
from togetherchat_server.frontends.grpc.peer_timeouts import PeerTimeouts, current_task
from togetherchat_server.frontends.grpc.status import status_of
from togetherchat_server.frontends.lazy_timer import LazyTimer

NO_MESSAGE: Final = "the call has no request message"
READ_TIMEOUT_MESSAGE: Final = "the caller sent no request within the request read timeout"
# Quoted: generic to a type checker, not to Python.
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Received, Message]"
Context: TypeAlias = "aio.ServicerContext[object, Message]"
Respond: TypeAlias = Callable[[], Awaitable[Message | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcTimeouts:
    """How long the service waits for a peer, in seconds."""

    request_read_timeout_s: float
    write_timeout_s: float


@final
class GrpcHandler(grpc.GenericRpcHandler):
    """Serves methods by their full names, such as `/togetherchat.v1.ChatService/Complete`."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        sessions: Sessions,
        timeouts: GrpcTimeouts,
        random: Callable[[], float],
    ) -> None:
        self.accepted = 0
        """Calls of every service on this server: gRPC asks the handler that was added first for each."""
        self._methods = methods
        self._sessions = sessions
        self._environment = _Environment(
            timeouts=timeouts,
            peers=PeerTimeouts(
                request_read_timeout_s=timeouts.request_read_timeout_s,
                write_timeout_s=timeouts.write_timeout_s,
            ),
            random=random,
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "RpcHandler | None":
        """Return the handler of a call. gRPC calls this in the call's task, before it reads the message."""
        self.accepted += 1
        name = handler_call_details.method
        method = self._methods.get(name)
        if method is None:
            return None
        session = self._sessions.open(
            incoming_call(name, method.scope, handler_call_details.invocation_metadata)
        )
        rpc = _Rpc(method, session, self._environment)
        try:
            session.admit()
        except ServiceError as error:
            return rpc.rejecting(error)
        return rpc.serving()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Environment:
    """What the calls of the handler share."""

    timeouts: GrpcTimeouts
    peers: PeerTimeouts
    random: Callable[[], float]


@final
class _Rpc:
    """One RPC: connects its session to gRPC's context."""

    __slots__ = (
        "_context",
        "_environment",
        "_method",
        "_releasing",
        "_stalled",
        "_stream",
        "_write_timer",
        "session",
    )

    def __init__(self, method: Method, session: Session, environment: _Environment) -> None:
        self.session: Final = session
        self._method = method
        self._environment = environment
        self._context: Context | None = None
        self._stream: SessionStream | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._write_timer: LazyTimer | None = None
        self._stalled = False
        """Whether the call's resources were released while a write was waiting for its peer."""

    def serving(self) -> RpcHandler:
        """Return the handler of a call that is not rejected yet."""

        async def handle(_requests: object, context: Context) -> Message | None:
            return await self._run(context, lambda: self._read_and_respond(context))

        shape = (
            grpc.stream_stream_rpc_method_handler
            if self._method.streams
            else grpc.stream_unary_rpc_method_handler
        )
        return shape(handle, request_deserializer=self._method.parse, response_serializer=serialise)

    def rejecting(self, error: ServiceError) -> RpcHandler:
        """Return the handler of a call that is rejected unread."""

        async def reject(_requests: object, context: Context) -> None:
            self._context = context
            self.session.set_peer(host_of(context.peer()))
            await self._send_error(context, self.session.fail(error))

        return grpc.stream_stream_rpc_method_handler(reject)

    def streaming(self, stream: SessionStream) -> None:
        """Declare the stream whose resources are released if the peer stops reading."""
        self._stream = stream

    async def write(self, message: Message) -> None:
        """Write one message.

        Raises:
            ServiceError: CALLER_CANCELLED, CALLER_STALLED.
        """
        context, timer = self._context, self._write_timer
        assert context is not None  # noqa: S101  set before the method runs
        if timer is None:
            timer = self._write_timer = LazyTimer(asyncio.get_running_loop(), self._release)
        timer.start(self._environment.timeouts.write_timeout_s)
        try:
            await context.write(message)
        except aio.InternalError as exc:
            raise ServiceError(Reason.CALLER_CANCELLED, "the caller disconnected during a write") from exc
        finally:
            timer.stop()
            if self._releasing is not None:  # the stream is closed once, and by one task
                await asyncio.wait({self._releasing})
        if self._stalled:
            raise ServiceError(Reason.CALLER_STALLED, WRITE_TIMEOUT_MESSAGE)

    async def _read_and_respond(self, context: Context) -> Message | None:
        """Read the message, and run the method. A returned message is still to be sent."""
        session, peers, task = self.session, self._environment.peers, current_task()
        if session.peer_check_needed:
            await session.check_peer(certificate_of(context))
        session.on_end = lambda: peers.task_ended(task)
        peers.request_awaited(
            task, lambda: session.end(ServiceError(Reason.CALLER_STALLED, READ_TIMEOUT_MESSAGE))
        )
        received = await context.read()
        peers.request_received(task)
        if received is aio.EOF:
            raise ServiceError(Reason.INVALID_REQUEST, NO_MESSAGE)
        response = await self._method.respond(cast("Received", received), self)
        if response is not None:
            peers.response_returned(task)
        return response

    async def _run(self, context: Context, respond: Respond) -> Message | None:
        """Run the call to its end. A returned message, if any, is still to be sent."""
        self._context = context
        session, response = self.session, None
        session.set_peer(host_of(context.peer()))

        async def work() -> None:
            nonlocal response
            async with session.deadline(context.time_remaining()):
                response = await respond()

        try:
            error = await session.run(work)
        finally:
            if self._write_timer is not None:
                self._write_timer.close()
                self._write_timer = None  # both refer to each other
        if error is not None:
            await self._send_error(context, error)
        context.set_trailing_metadata(response_metadata(session.call))
        return response

    def _release(self) -> None:
        """Release the resources of a call whose client stopped reading. The pending write is kept.

        If only the last message of a completed response is pending, the call is not a failure: the
        response is complete when the client reads it, however late.
        """
        session = self.session
        session.release_permit()
        if self._stream is not None:
            self._releasing = asyncio.create_task(self._stream.aclose())
        if not session.is_completing:
            self._stalled = True
            session.close(ServiceError(Reason.CALLER_STALLED, WRITE_TIMEOUT_MESSAGE))

    async def _send_error(self, context: Context, error: ServiceError) -> NoReturn:
        """Send the status of an error, unless the peer cannot receive one.

        That is a peer that has disconnected, or one that has not read the pending write.
        """
        unread = self._stalled and error.reason is not Reason.CALLER_STALLED
        if unread or error.reason is Reason.CALLER_CANCELLED:
            raise asyncio.CancelledError from error
        session = self.session
        status = status_of(
            error,
            session.call,
            output_sent=session.messages_sent > 0,
            seconds_left=session.seconds_left(),
            fraction=self._environment.random(),
        )
        try:
            await context.abort(status.code, status.message, status.trailers)
        except aio.AbortError as exc:
            # gRPC's state of the call keeps this exception, which refers to frames that refer to that state.
            current_task().add_done_callback(partial(_discard_frames, exc))
            raise
        raise AssertionError  # unreachable: abort raises


def _discard_frames(error: BaseException, _ended: object) -> None:
    error.__traceback__ = None
