"""The HTTP side: the addresses, the keys, and the sandbox as something that starts and stops.

It uses aiohttp's low-level server, because that one tells when a connection is lost, which is half
of what the request log is for.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Self, final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from togetherchat_sandbox.api_errors import ERRORS, NOT_FOUND, RequestRejectedError, error_reply
from togetherchat_sandbox.behaviour import PREFIX
from togetherchat_sandbox.delivery import deliver
from togetherchat_sandbox.encoding import Json, encode
from togetherchat_sandbox.faults import SANDBOX_MODELS
from togetherchat_sandbox.model_list import list_models
from togetherchat_sandbox.repeat_counter import RepeatCounter
from togetherchat_sandbox.reply import AnyReply, unary_reply
from togetherchat_sandbox.request import parse_request
from togetherchat_sandbox.request_log import LoggedRequest, RequestLog
from togetherchat_sandbox.responder import JSON, ReplyContext, reply_to_chat, with_standard_headers
from togetherchat_sandbox.settings import SandboxSettings

# Keys that the sandbox does not accept; any other will do, and so will none.
REJECTED_KEYS = {"invalid": ERRORS["401"], "broke": ERRORS["402"]}

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
        self._repeats = RepeatCounter(requests_max=self._settings.repeat_counter_size)
        self._received = 0
        self._runner: web.ServerRunner | None = None
        self.request_log = RequestLog(time.monotonic, requests_max=self._settings.request_log_size)

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
        server = _Server(self._handle, self.request_log)
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
        self.request_log.sandbox_stopping()
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
        if request.method == "GET" and request.path in {"/sandbox", "/sandbox/request-log"}:
            return self._page(request)
        self._received += 1
        context = ReplyContext(settings=self._settings, number=self._received, now_s=self._wall_clock())
        entry = self.request_log.add(
            request.protocol,
            number=context.number,
            response_id=context.response_id,
            id=request.headers.get("x-request-id"),
            method=request.method,
            path=request.path,
        )
        try:
            outcome = with_standard_headers(await self._outcome(request, context, entry), context)
            return await deliver(outcome, request, self.request_log, entry)
        except ConnectionError:
            # Nobody is there to be answered: aiohttp finds out the same way and closes quietly.
            return web.Response(status=499)
        finally:
            self.request_log.finish(entry)

    async def _outcome(
        self, request: web.BaseRequest, context: ReplyContext, entry: LoggedRequest
    ) -> AnyReply:
        try:
            match (request.method, request.path):
                case ("POST", "/v1/chat/completions"):
                    return await self._chat(request, context, entry)
                case ("GET", "/v1/models"):
                    return _models(request)
                case _:
                    error = NOT_FOUND
        except RequestRejectedError as exc:
            error = exc.error
        return error_reply(error, response_id=context.response_id, now_s=context.now_s)

    async def _chat(self, request: web.BaseRequest, context: ReplyContext, entry: LoggedRequest) -> AnyReply:
        _check_key(request)
        chat = parse_request(await _body(request, self._settings.request_bytes_max))
        self.request_log.set_model(entry, model=chat.model, stream=chat.stream)
        return reply_to_chat(chat, replace(context, repeat=self._repeats.count(chat)))

    def _page(self, request: web.BaseRequest) -> web.Response:
        query = request.query
        if request.path == "/sandbox":
            page: Json = _about()
        else:
            page = self.request_log.to_json(id=query.get("id"), model=query.get("model"))
        return web.Response(body=encode(page), headers={"content-type": JSON, "x-upstream": "sandbox"})


async def _body(request: web.BaseRequest, bytes_max: int) -> bytes:
    body = bytearray()
    while part := await request.content.readany():
        body += part
        if len(body) > bytes_max:
            raise RequestRejectedError(ERRORS["413"])
    return bytes(body)


def _check_key(request: web.BaseRequest) -> None:
    error = REJECTED_KEYS.get(_key(request))
    if error:
        raise RequestRejectedError(error)


def _key(request: web.BaseRequest) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ").strip()


def _models(request: web.BaseRequest) -> AnyReply:
    _check_key(request)
    dedicated_only = request.query.get("dedicated") == "true"
    models: Json = [] if dedicated_only else [*list_models(row.model for row in SANDBOX_MODELS)]
    return unary_reply(encode(models), JSON)


def _about() -> Json:
    models: list[Json] = [
        {"model": PREFIX + row.name, "example": row.model, "description": row.description}
        for row in SANDBOX_MODELS
    ]
    return {
        "about": "A simulator of Together AI's chat API. It accepts any model id; these ids have faults.",
        "chat": "/v1/chat/completions",
        "models": "/v1/models",
        "request_log": "/sandbox/request-log",
        "sandbox_models": models,
    }


@final
class _Server(web.Server):
    """aiohttp's server, with its news of lost connections passed on."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], request_log: RequestLog
    ) -> None:
        super().__init__(handler, handler_cancellation=True, access_log=None, logger=_LOGGER)
        self._request_log = request_log

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._request_log.connection_lost(handler)


def _tells_no_header(record: logging.LogRecord) -> bool:
    """False for requests that cannot be parsed: their exceptions quote headers, keys among them."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER.addFilter(_tells_no_header)
