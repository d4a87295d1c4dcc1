"""The sandbox as a server: listener, connections, and the pages about the sandbox itself.

uvicorn's own server would take over the process's signals and needs up to 0.3 s to stop. Only its
connections are used, on a listener of the running event loop.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from uvicorn.config import Config
from uvicorn.server import ServerState

from togetherchat_sandbox.api import SimulatedApi
from togetherchat_sandbox.behaviour import PREFIX
from togetherchat_sandbox.bill import Bill
from togetherchat_sandbox.connection import SandboxConnection
from togetherchat_sandbox.encoding import Json, JsonObject, encode
from togetherchat_sandbox.faults import SANDBOX_MODELS
from togetherchat_sandbox.request_log import RequestLog
from togetherchat_sandbox.responder import JSON
from togetherchat_sandbox.settings import SandboxSettings

BACKLOG: Final = 1024
# Longer than the pools of clients keep idle connections: the client closes them, not the sandbox.
KEEP_ALIVE_S: Final = 3600


@final
class Sandbox:
    """A sandbox and its listener: entering the context starts it, leaving stops it.

    `port` 0 selects a free port. `wall_clock` returns the Unix time in seconds, for `created` and dates.
    """

    def __init__(
        self,
        settings: SandboxSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        settings = settings or SandboxSettings()
        self._host = host
        self._port = port
        self.request_log = RequestLog(time.monotonic, requests_max=settings.request_log_size)
        self.bill = Bill(requests_max=settings.bill_size)
        pages = _Pages(self.request_log, self.bill)
        self._config = Config(
            Starlette(
                routes=[
                    Route("/sandbox", pages.about),
                    Route("/sandbox/request-log", pages.request_log),
                    Route("/sandbox/bill", pages.bill),
                    Mount("/", SimulatedApi(settings, self.request_log, self.bill, wall_clock)),
                ]
            ),
            interface="asgi3",
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._config.load()
        self._state = ServerState()
        self._connections: set[SandboxConnection] = set()
        self._listener: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """The base URL of the API, as clients need it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/v1"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is in use or does not belong to this machine.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connection, self._host, self._port, backlog=BACKLOG)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self.request_log.sandbox_stopping()
        listener.close()
        for connection in list(self._connections):
            connection.abort()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _connection(self) -> SandboxConnection:
        return SandboxConnection(self._config, self._state, on_made=self._made, on_lost=self._lost)

    def _made(self, connection: SandboxConnection) -> None:
        if self._listener is None:
            # The connection was accepted just before the listener was closed.
            connection.abort()
        self._connections.add(connection)

    def _lost(self, connection: SandboxConnection) -> None:
        self._connections.discard(connection)
        self.request_log.connection_lost(connection)


@final
class _Pages:
    """The pages about the sandbox: its models with faults, the request log, and the bill."""

    def __init__(self, request_log: RequestLog, bill: Bill) -> None:
        self._request_log = request_log
        self._bill = bill

    async def about(self, _request: Request) -> Response:
        models: list[Json] = [
            {"model": PREFIX + row.name, "example": row.model, "description": row.description}
            for row in SANDBOX_MODELS
        ]
        return _page(
            {
                "about": "A simulator of Together AI's chat API. Any model id works; these have faults.",
                "chat": "/v1/chat/completions",
                "models": "/v1/models",
                "request_log": "/sandbox/request-log",
                "bill": "/sandbox/bill",
                "sandbox_models": models,
            }
        )

    async def request_log(self, request: Request) -> Response:
        query = request.query_params
        return _page(self._request_log.to_json(id=query.get("id"), model=query.get("model")))

    async def bill(self, _request: Request) -> Response:
        return _page(self._bill.to_json())


def _page(body: JsonObject) -> Response:
    return Response(encode(body), media_type=JSON, headers={"x-upstream": "sandbox"})
