"""The HTTP side: the addresses, the keys, and the sandbox as something that starts and stops.

It uses aiohttp's low-level server, because that one tells when a connection is lost, which is half
of what the ledger is for.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Self, final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from togetherchat_sandbox.behaviour import PREFIX
from togetherchat_sandbox.delivery import deliver
from togetherchat_sandbox.ledger import Entry, Ledger
from togetherchat_sandbox.misbehaviour import NAMES
from togetherchat_sandbox.models import listing
from togetherchat_sandbox.refusals import NOT_FOUND, REFUSALS, Refused, refused
from togetherchat_sandbox.repeats import Repeats
from togetherchat_sandbox.replies import JSON, Scene, chat_reply, headed
from togetherchat_sandbox.reply import Outcome, whole
from togetherchat_sandbox.request import read
from togetherchat_sandbox.settings import SandboxSettings
from togetherchat_sandbox.wire import Json, encode

# Keys that the sandbox does not accept; any other will do, and so will none.
KEYS_REFUSED = {"invalid": REFUSALS["401"], "broke": REFUSALS["402"]}

_LOGGER = logging.getLogger("togetherchat_sandbox")


class Sandbox:
    """A sandbox on a port of its own: enter it to start, leave it to stop.

    `port` 0 takes a free one. `wall_clock` gives the seconds of `created` and of dates.
    """

    def __init__(
        self,
        settings: SandboxSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings or SandboxSettings()
        self._host = host
        self._port = port
        self._wall_clock = wall_clock
        self._repeats = Repeats(questions_max=self._settings.repeats_max)
        self._received = 0
        self._runner: web.ServerRunner | None = None
        self.ledger = Ledger(time.monotonic, requests_max=self._settings.ledger_requests_max)

    @property
    def base_url(self) -> str:
        """What a client is given as the address of the API."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/v1"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or is not ours.
        """
        server = _Server(self._handle, self.ledger)
        runner = web.ServerRunner(server, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port).start()
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Drop every connection and stop listening."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self.ledger.close()
        server = runner.server
        for connection in server.connections if server else ():
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET" and request.path in {"/sandbox", "/sandbox/ledger"}:
            return self._page(request)
        self._received += 1
        scene = Scene(settings=self._settings, number=self._received, now_s=self._wall_clock())
        entry = self.ledger.open(
            request.protocol,
            number=scene.number,
            answer_id=scene.answer_id,
            id=request.headers.get("x-request-id"),
            method=request.method,
            path=request.path,
        )
        try:
            outcome = headed(await self._outcome(request, scene, entry), scene)
            return await deliver(outcome, request, self.ledger, entry)
        except ConnectionError:
            # Nobody is there to be answered: aiohttp finds out the same way and closes quietly.
            return web.Response(status=499)
        finally:
            self.ledger.finish(entry)

    async def _outcome(self, request: web.BaseRequest, scene: Scene, entry: Entry) -> Outcome:
        try:
            match (request.method, request.path):
                case ("POST", "/v1/chat/completions"):
                    return await self._chat(request, scene, entry)
                case ("GET", "/v1/models"):
                    return _models(request)
                case _:
                    refusal = NOT_FOUND
        except Refused as exc:
            refusal = exc.refusal
        return refused(refusal, answer_id=scene.answer_id, now_s=scene.now_s)

    async def _chat(self, request: web.BaseRequest, scene: Scene, entry: Entry) -> Outcome:
        _check_key(request)
        asked = read(await _body(request, self._settings.request_bytes_max))
        self.ledger.identify(entry, model=asked.model, stream=asked.stream)
        return chat_reply(asked, replace(scene, attempt=self._repeats.count(asked)))

    def _page(self, request: web.BaseRequest) -> web.Response:
        query = request.query
        if request.path == "/sandbox":
            page: Json = _about()
        else:
            page = self.ledger.told(id=query.get("id"), model=query.get("model"))
        return web.Response(body=encode(page), headers={"content-type": JSON, "x-upstream": "sandbox"})


async def _body(request: web.BaseRequest, bytes_max: int) -> bytes:
    body = bytearray()
    while part := await request.content.readany():
        body += part
        if len(body) > bytes_max:
            raise Refused(REFUSALS["413"])
    return bytes(body)


def _check_key(request: web.BaseRequest) -> None:
    refusal = KEYS_REFUSED.get(_key(request))
    if refusal:
        raise Refused(refusal)


def _key(request: web.BaseRequest) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ").strip()


def _models(request: web.BaseRequest) -> Outcome:
    _check_key(request)
    dedicated_only = request.query.get("dedicated") == "true"
    models: Json = [] if dedicated_only else [*listing(row.model for row in NAMES)]
    return whole(encode(models), JSON)


def _about() -> Json:
    names: list[Json] = [
        {"model": PREFIX + row.name, "example": row.model, "does": row.says} for row in NAMES
    ]
    return {
        "about": "A simulation of Together AI's chat API. It answers any model id; these names misbehave.",
        "chat": "/v1/chat/completions",
        "models": "/v1/models",
        "ledger": "/sandbox/ledger",
        "names": names,
    }


@final
class _Server(web.Server):
    """aiohttp's server, with its news of lost connections passed on."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], ledger: Ledger
    ) -> None:
        super().__init__(handler, handler_cancellation=True, access_log=None, logger=_LOGGER)
        self._ledger = ledger

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._ledger.connection_lost(handler)


def _tells_no_header(record: logging.LogRecord) -> bool:
    """False for requests that cannot be parsed: their exceptions quote headers, keys among them."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER.addFilter(_tells_no_header)
