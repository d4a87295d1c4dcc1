"""Accepts many calls in one turn of the event loop.

grpcio's asyncio server requests one call at a time from gRPC's core. From one request to the next the
event loop turns six times, and with a thousand streams a turn takes milliseconds: the server accepted
twenty calls a second, and the core cancelled those that had waited for half a minute, without a status.

Here several requests for each method are outstanding, so as many calls are accepted within two turns.
A *registered* method has requests of its own, so a flood of one method does not delay another.

The functions of grpcio that this takes are not public. So their signatures are compared with those of
grpcio 1.85; where they differ, calls are accepted as grpcio does, and a warning says so.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Final, Protocol, cast, final

import grpc
from grpc import aio
from grpc._cython import cygrpc  # pyright: ignore[reportMissingTypeStubs]

REQUESTS: Final = 8
"""Requests outstanding for each method: with more, opening calls would delay the tokens of streams."""
HANDLE: Final = "_handle_rpc"
SCHEDULE: Final = "_schedule_rpc_coro"
REQUEST: Final = "_request_registered_call"
REQUEST_FAILED: Final = "_RequestCallError"
SIGNATURES: Final = {
    HANDLE: (
        "method_name",
        "method_resolver",
        "interceptors",
        "rpc_state",
        "loop",
        "concurrency_exceeded",
    ),
    SCHEDULE: ("rpc_coro", "rpc_state", "loop", "method_name"),
}

_log = logging.getLogger(__name__)
_Work = Coroutine[object, object, None]
_Loop = asyncio.AbstractEventLoop


class _Server(Protocol):
    """What is used of `cygrpc.AioServer`, which an `aio.Server` wraps."""

    def is_running(self) -> bool: ...


def supported() -> bool:
    """Return whether the functions of this grpcio are those that `Acceptance` needs."""
    try:
        found = {name: tuple(inspect.signature(getattr(cygrpc, name)).parameters) for name in SIGNATURES}
    except (AttributeError, TypeError, ValueError):
        return False
    server = vars(cygrpc).get("AioServer")
    return found == SIGNATURES and hasattr(server, REQUEST) and hasattr(cygrpc, REQUEST_FAILED)


@final
class Acceptance:
    """The requests for calls of one server. Create it before the server starts.

    Args:
        server: serves the methods through its generic handlers.
        handler: the generic handler of the methods.
        methods: full names, such as `/togetherchat.v1.ChatService/Complete`.
    """

    def __init__(self, server: aio.Server, handler: grpc.GenericRpcHandler, methods: Iterable[str]) -> None:
        self._server = cast("_Server", vars(server)["_server"])
        self._request = cast("Callable[[bytes], Awaitable[object]]", getattr(self._server, REQUEST))
        self._request_failed = cast("type[Exception]", getattr(cygrpc, REQUEST_FAILED))
        self._handle = cast(
            "Callable[[str, object, tuple[()], object, _Loop, bool], _Work]", getattr(cygrpc, HANDLE)
        )
        self._schedule = cast("Callable[[_Work, object, _Loop, str], _Work]", getattr(cygrpc, SCHEDULE))
        self._resolver = _Resolver(handler.service)
        self._methods = tuple(methods)
        self._tasks: set[asyncio.Task[None]] = set()
        for method in self._methods:
            service, name = method.strip("/").split("/")
            # A registered method without a handler of its own is served by the generic handlers.
            server.add_registered_method_handlers(service, {name: None})  # pyright: ignore[reportArgumentType]

    def start(self) -> None:
        """Request calls, once the server was started. Its stop ends this."""
        for method in self._methods:
            for _ in range(REQUESTS):
                self._run(self._accept(method), f"accept {method}")

    async def _accept(self, method: str) -> None:
        loop, registered = asyncio.get_running_loop(), method.encode()
        while self._server.is_running():
            try:
                call = await self._request(registered)
            except self._request_failed:
                return  # the server stops
            handling = self._handle(method, self._resolver, (), call, loop, False)
            self._run(self._schedule(handling, call, loop, method), "rpc_task")

    def _run(self, work: _Work, name: str) -> None:
        """Run a task, and keep it: the event loop itself keeps no reference to a task."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("gRPC failed to accept a call", exc_info=error)


@final
class _Resolver:
    """Finds the handler of a call, as grpcio asks for it."""

    def __init__(self, resolve: Callable[[grpc.HandlerCallDetails], object]) -> None:
        self.resolve_handler = resolve
