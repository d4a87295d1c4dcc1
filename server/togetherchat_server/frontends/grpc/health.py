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

No call needs a credential. So requests are read with a permit (`read_permits`), and an address may have a
number of watches. Beyond it the answer is UNIMPLEMENTED, which gRPC clients take for a healthy service: a
limit that many clients behind one address share must not stop their calls.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias, final

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio
from grpc_health.v1 import health_pb2

from togetherchat_server.domain.addresses import network_of
from togetherchat_server.frontends.grpc.peer import host_of
from togetherchat_server.frontends.grpc.read_permits import ReadPermits, ReadTimeoutError

SERVICE: Final = "grpc.health.v1.Health"
Status: TypeAlias = "health_pb2.HealthCheckResponse.ServingStatus.ValueType"
Request: TypeAlias = health_pb2.HealthCheckRequest | None
"""None stands for bytes that cannot be parsed: gRPC would send an exception's text to the caller."""
Context: TypeAlias = "aio.ServicerContext[Request, Message]"
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Request, Message]"
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
OVERALL: Final = ""
UNPARSABLE: Final = "the request is not a valid HealthCheckRequest"
LATE: Final = "the request did not arrive in time; retry"
REQUEST_BYTES_MAX: Final = 4096
WATCHES_MAX: Final = 4096
WATCHES_PER_ADDRESS_MAX: Final = 128

_log = logging.getLogger(__name__)


@final
class Health:
    """Sole owner of the serving status of each of `services` and of the whole process (`""`)."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self._names = (OVERALL, *services)
        self._status: Status = NOT_SERVING
        self._watched: Status = NOT_SERVING
        self._changed = asyncio.Event()
        self._ended = False
        self._watches: Counter[str] = Counter()

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

    def handlers(self, permits: ReadPermits) -> grpc.GenericRpcHandler:
        """Return the handlers for a server, which read requests with these permits.

        They are shaped as streams, also where the method is not: gRPC reads no message before they ask.
        """
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": _handler(partial(self._check, permits)),
                "List": _handler(self._list),
                "Watch": _handler(partial(self._watch, permits)),
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

    async def _check(self, permits: ReadPermits, _requests: object, context: Context) -> None:
        request = await _read(permits, context)
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service; List returns the known ones")
        await _send(health_pb2.HealthCheckResponse(status=self._status), context)

    async def _list(self, _requests: object, context: Context) -> None:
        response = health_pb2.HealthListResponse()
        for name in self._names:
            response.statuses[name].status = self._status
        await _send(response, context)

    async def _watch(self, permits: ReadPermits, _requests: object, context: Context) -> None:
        network = network_of(host_of(context.peer()))
        if self._watches[network] >= WATCHES_PER_ADDRESS_MAX or self._watches.total() >= WATCHES_MAX:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, "too many open watches; close one or use Check"
            )
        self._watches[network] += 1
        try:
            request = await _read(permits, context)
            await self._follow(request.service, context)
        finally:
            self._watches[network] -= 1
            if not self._watches[network]:
                del self._watches[network]

    async def _follow(self, service: str, context: Context) -> None:
        """Send the status of a service, and every change of it."""
        sent: Status | None = None
        while True:
            changed = self._changed
            status = self._watched_status(service)
            if status != sent:
                await _send(health_pb2.HealthCheckResponse(status=status), context)
                sent = status
            elif self._ended:
                return
            else:
                await changed.wait()


def _handler(method: Callable[[object, Context], Awaitable[None]]) -> RpcHandler:
    return grpc.stream_stream_rpc_method_handler(method, _parse, _serialise)


async def _read(permits: ReadPermits, context: Context) -> health_pb2.HealthCheckRequest:
    """Return the request of a call, or abort the call."""
    try:
        request = await permits.read(context)
    except ReadTimeoutError:
        await context.abort(grpc.StatusCode.UNAVAILABLE, LATE)
    if not isinstance(request, health_pb2.HealthCheckRequest):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNPARSABLE)
    return request


async def _send(message: Message, context: Context) -> None:
    try:
        await context.write(message)
    except aio.InternalError as exc:
        # The peer disconnected during the write: nobody can receive an error.
        raise asyncio.CancelledError from exc


def _parse(data: bytes) -> Request:
    if len(data) > REQUEST_BYTES_MAX:
        return None
    try:
        return health_pb2.HealthCheckRequest.FromString(data)
    except DecodeError:
        return None


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()
