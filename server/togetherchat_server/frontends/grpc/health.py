"""The health service: Check, Watch and List, by the words of `grpc.health.v1`.

The stock asyncio servicer writes to its watchers while it holds its lock: one watcher that
takes no message freezes every change of status (measured on grpcio-health-checking 1.85).
Here each watcher waits for the next change on its own and writes with nothing held.

The status says whether this process wants calls. It never follows the provider: if it did,
every replica would leave its balancer in the same moment.

Who asks and who watches hear of a stop at different times. Check is what probes and proxies ask:
they hear of it at once, and take the process out of what they balance. Watch is what gRPC's own
clients do on the connection that carries their calls. One that hears NOT_SERVING fails its calls
until it has another backend, and where all pods are behind one address it has none before this
connection ends (in a cluster, 69 of 347 calls were lost in the five seconds between). So watchers
hear of it when the connection ends, by which clients connect anew while their calls wait.
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
"""None stands for bytes that are none: the text of an exception would reach the caller."""
Context: TypeAlias = "aio.ServicerContext[object, Message]"
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
OVERALL: Final = ""
UNPARSABLE: Final = "no such message"

_log = logging.getLogger(__name__)


@final
class Health:
    """Sole owner of the serving status of `services` and of the whole (`""`)."""

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

    def set_serving(self, serving: bool, *, reason: str) -> None:  # noqa: FBT001  the word is in the name
        """Change the status and tell every watcher."""
        self._change(SERVING if serving else NOT_SERVING, reason)
        self._tell_watchers()

    def withdraw(self, *, reason: str) -> None:
        """Whoever asks is told NOT_SERVING from now on; watchers when their watches end."""
        self._change(NOT_SERVING, reason)

    def end_watches(self) -> None:
        """Let watches end, so that open ones do not hold up the stop of the server."""
        self._ended = True
        self._tell_watchers()

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server serves."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check, _parsed, _serialised),
                "List": grpc.unary_unary_rpc_method_handler(self.list_all, None, _serialised),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, _parsed, _serialised),
            },
        )

    def _change(self, status: Status, reason: str) -> None:
        self._status = status
        _log.info("health is now %s: %s", "serving" if status == SERVING else "not serving", reason)

    def _tell_watchers(self) -> None:
        self._watched = self._status
        waited_for, self._changed = self._changed, asyncio.Event()
        waited_for.set()

    def _watched_of(self, service: str) -> Status:
        return self._watched if service in self._names else SERVICE_UNKNOWN

    async def check(
        self,
        request: Request,
        context: Context,
    ) -> health_pb2.HealthCheckResponse:
        if request is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNPARSABLE)
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
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
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watches")
        self._watchers += 1
        try:
            await self._watch(request.service, context)
        finally:
            self._watchers -= 1

    async def _watch(self, service: str, context: Context) -> None:
        told: Status | None = None
        while True:
            changed = self._changed
            status = self._watched_of(service)
            if status != told:
                await _tell(status, context)
                told = status
            elif self._ended:
                return
            else:
                await changed.wait()


async def _tell(status: Status, context: Context) -> None:
    try:
        await context.write(health_pb2.HealthCheckResponse(status=status))
    except aio.InternalError as exc:
        # The watcher left while it was told: nobody is there to hear of an error.
        raise asyncio.CancelledError from exc


def _parsed(data: bytes) -> Request:
    try:
        return health_pb2.HealthCheckRequest.FromString(data)
    except DecodeError:
        return None


def _serialised(message: Message) -> bytes:
    return message.SerializeToString()
