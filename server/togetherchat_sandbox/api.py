"""The simulated API as an ASGI application: paths, keys, and the life of one request.

Every request is logged, those with an unknown path too. A request ends when its reply has been
sent or when its client disconnects, whichever is first.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from togetherchat_sandbox import model_quirks
from togetherchat_sandbox.api_errors import ERRORS, NOT_FOUND, RequestRejectedError, error_reply
from togetherchat_sandbox.bill import Bill
from togetherchat_sandbox.connection import connection_of
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

# The sandbox accepts any other key, and requests without a key.
REJECTED_KEYS: Final = {"invalid": ERRORS["401"], "broke": ERRORS["402"]}


@final
class SimulatedApi:
    """The ASGI application."""

    def __init__(
        self, settings: SandboxSettings, request_log: RequestLog, bill: Bill, wall_clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._request_log = request_log
        self._bill = bill
        self._wall_clock = wall_clock
        self._repeats = RepeatCounter(requests_max=settings.repeat_counter_size)
        self._received = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, connection = Request(scope, receive), connection_of(scope)
        self._received += 1
        context = ReplyContext(
            settings=self._settings,
            number=self._received,
            now_s=self._wall_clock(),
            debug=request.headers.get("x-together-debug") == "1",
        )
        entry = self._request_log.add(
            connection,
            number=context.number,
            response_id=context.response_id,
            id=request.headers.get("x-request-id"),
            method=request.method,
            path=scope["path"],
        )
        try:
            reply = with_standard_headers(await self._reply(request, context, entry), context)
            async with asyncio.TaskGroup() as tasks:
                disconnect = tasks.create_task(_raise_on_disconnect(receive))
                await deliver(reply, send, connection, self._request_log, entry)
                disconnect.cancel()
        except* ClientDisconnect:
            pass
        finally:
            self._request_log.finish(entry)
            self._bill.charge(entry)

    async def _reply(self, request: Request, context: ReplyContext, entry: LoggedRequest) -> AnyReply:
        try:
            match (request.method, request.scope["path"]):
                case ("POST", "/v1/chat/completions"):
                    return await self._chat(request, context, entry)
                case ("GET", "/v1/models"):
                    return _models(request)
                case _:
                    error = NOT_FOUND
        except RequestRejectedError as exc:
            error = exc.error
        return error_reply(error, response_id=context.response_id, now_s=context.now_s)

    async def _chat(self, request: Request, context: ReplyContext, entry: LoggedRequest) -> AnyReply:
        _check_key(request)
        chat = parse_request(await _body(request, self._settings.request_bytes_max))
        self._request_log.set_model(entry, model=chat.model, stream=chat.stream)
        repeats = self._repeats
        reply = reply_to_chat(
            chat,
            replace(context, repeat=repeats.count(chat), cache_repeat=repeats.count_cache_key(chat)),
        )
        entry.input_tokens, entry.cached_tokens = reply.input.all, reply.input.cached
        return reply


async def _raise_on_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


async def _body(request: Request, bytes_max: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > bytes_max:
            raise RequestRejectedError(ERRORS["413"])
    return bytes(body)


def _check_key(request: Request) -> None:
    key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if error := REJECTED_KEYS.get(key):
        raise RequestRejectedError(error)


def _models(request: Request) -> AnyReply:
    _check_key(request)
    dedicated_only = request.query_params.get("dedicated") == "true"
    serverless_only = request.query_params.get("serverless") == "true"
    own = (row for row in SANDBOX_MODELS if not (serverless_only and row.name in model_quirks.DEDICATED))
    models: Json = [] if dedicated_only else [*list_models(row.model for row in own)]
    return unary_reply(encode(models), JSON)
