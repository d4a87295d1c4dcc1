"""The health service `grpc.health.v1`: Check, Watch and List.

The asyncio servicer of grpcio-health-checking writes to its watchers while it holds its lock: one
watcher that reads nothing blocks every change of status (measured on grpcio-health-checking 1.85).
Here each watcher waits for the next change by itself and writes without a lock.

The status shows whether this process accepts calls. It never depends on the provider: if it did,
every replica would leave its load balancer at the same moment.

Check and Watch report a stop at different times. Probes and proxies use Check: they get NOT_SERVING
at once, and remove the process from load balancing. gRPC clients use Watch, on the connection that
carries their calls. A client that gets NOT_SERVING fails its calls until it has another backend; if
all pods are behind one address, it has none before this connection ends (in a cluster, 69 of 347
calls were lost in the five seconds between). So watchers get NOT_SERVING when the connection ends:
then clients reconnect while their calls wait.
"""

import asyncio
import logging
from typing import Final, TypeAlias, final

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio
from grpc_health.v1 import health_pb2

SERVICE: Final = "grpc.health.v1.Health"
Status: TypeAlias = "health_pb2.HealthCheckResponse.ServingStatus.ValueType"
Request: TypeAlias = health_pb2.HealthCheckRequest | None
"""None stands for bytes that cannot be parsed: gRPC would send an exception's text to the caller."""
Context: TypeAlias = "aio.ServicerContext[object, Message]"
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
OVERALL: Final = ""
UNPARSABLE: Final = "the request is not a valid HealthCheckRequest"

_log = logging.getLogger(__name__)


@final
class Health:
    """Sole owner of the serving status of each of `services` and of the whole process (`""`)."""

    def __init__(self, services: tuple[str, ...], *, watchers_max: int) -> None:
        self._names = (OVERALL, *services)
        self._status: Status = NOT_SERVING
        self._watched: Status = NOT_SERVING
        self._changed = asyncio.Event()
        self._ended = False
        self._watchers = 0
        self._watchers_max = watchers_max

    @property
    def serving(self) -> bool:
        return self._status == SERVING

    def set_serving(self, serving: bool, *, reason: str) -> None:  # noqa: FBT001  the name says what it means
        """Change the status and notify every watcher."""
        self._change(SERVING if serving else NOT_SERVING, reason)
        self._notify_watchers()

    def withdraw(self, *, reason: str) -> None:
        """Report NOT_SERVING to Check and List from now on, and to watchers when their watches end."""
        self._change(NOT_SERVING, reason)

    def end_watches(self) -> None:
        """End all watches, so that open ones do not delay the stop of the server."""
        self._ended = True
        self._notify_watchers()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the handlers for a server."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check, _parse, _serialise),
                "List": grpc.unary_unary_rpc_method_handler(self.list_all, None, _serialise),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, _parse, _serialise),
            },
        )

    def _change(self, status: Status, reason: str) -> None:
        self._status = status
        _log.info("health is now %s: %s", "serving" if status == SERVING else "not serving", reason)

    def _notify_watchers(self) -> None:
        self._watched = self._status
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _watched_status(self, service: str) -> Status:
        return self._watched if service in self._names else SERVICE_UNKNOWN

    async def check(
        self,
        request: Request,
        context: Context,
    ) -> health_pb2.HealthCheckResponse:
        if request is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNPARSABLE)
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service; List returns the known ones")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def list_all(
        self,
        request: bytes,
        context: Context,
    ) -> health_pb2.HealthListResponse:
        del request, context
        response = health_pb2.HealthListResponse()
        for name in self._names:
            response.statuses[name].status = self._status
        return response

    async def watch(
        self,
        request: Request,
        context: Context,
    ) -> None:
        if request is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNPARSABLE)
        if self._watchers >= self._watchers_max:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many open watches; close one or use Check"
            )
        self._watchers += 1
        try:
            await self._watch(request.service, context)
        finally:
            self._watchers -= 1

    async def _watch(self, service: str, context: Context) -> None:
        sent: Status | None = None
        while True:
            changed = self._changed
            status = self._watched_status(service)
            if status != sent:
                await _send(status, context)
                sent = status
            elif self._ended:
                return
            else:
                await changed.wait()


async def _send(status: Status, context: Context) -> None:
    try:
        await context.write(health_pb2.HealthCheckResponse(status=status))
    except aio.InternalError as exc:
        # The watcher disconnected during the write: there is no peer to send an error to.
        raise asyncio.CancelledError from exc


def _parse(data: bytes) -> Request:
    try:
        return health_pb2.HealthCheckRequest.FromString(data)
    except DecodeError:
        return None


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()
