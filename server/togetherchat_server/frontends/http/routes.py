"""The door's application: its paths, and what is refused before a call begins.

An ASGI application without middleware. What is refused here (an unknown path, a wrong method,
another provider, a body that is no JSON by its own word) is no call yet, and leaves no record.

Three rules look at the body's type and at the page that asks. A web page may send a form or plain
text to any address without asking, and a JSON body only to the site that it came from: so what
is not declared to be JSON is refused, and so is a page of another site. And a page may have its
own name lead to this machine, once it is loaded: so where the service's key pays on a loopback
address, a page must have come from one. Without them, any page that a developer opens could
spend the key of a service on the developer's own machine.

MERGED: Puts the door together: what `app` needs to know of it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from typing import Final, final
from urllib.parse import urlsplit

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from togetherchat_server.calls.admission import Admission
from togetherchat_server.calls.auth_throttle import AuthThrottle
from togetherchat_server.calls.session import Sessions, request_id_or_new
from togetherchat_server.config import LOOPBACK_HOSTS
from togetherchat_server.config.tls import Certificates
from togetherchat_server.domain.ports import Chat, ModelListing
from togetherchat_server.frontends.http.console.page import MODELS_METHOD, Console, Figures, foreign_name
from togetherchat_server.frontends.http.exchange import JSON, Exchange
from togetherchat_server.frontends.http.handler import HttpHandler, HttpLimits, Work
from togetherchat_server.frontends.http.openai import chat, models, openapi
from togetherchat_server.frontends.http.openai.chat import ChatEndpoint
from togetherchat_server.frontends.http.openai.errors import INVALID, ErrorResponse
from togetherchat_server.frontends.http.openai.models import ModelsEndpoint
from togetherchat_server.frontends.http.server import HttpServer

PREFIXES: Final = ("/v1", "")
"""Clients are given a base URL with or without it."""
PROVIDERS: Final = ("together",)
PROVIDER_HEADER: Final = "x-provider"
GETTING: Final = (HTTPMethod.GET, HTTPMethod.HEAD)

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """What the paths lead to."""

    handler: HttpHandler
    chat: ChatEndpoint
    models: ModelsEndpoint
    console: Console | None
    version: str
    local_pages_only: bool
    """Whether pages are served that have come from this machine alone."""

    def application(self) -> Router:
        """The application that is served."""
        document = openapi.document(self.version, console=self.console is not None)

        async def describe(exchange: Exchange) -> None:
            headers = (("content-type", JSON), *_id_of(exchange))
            await exchange.answer(HTTPStatus.OK, headers, document)

        places: tuple[tuple[str, ASGIApp], ...] = (
            ("/chat/completions", self._call(chat.METHOD, (HTTPMethod.POST,), self.chat.answer)),
            ("/models", self._call(models.LIST_METHOD, GETTING, self.models.listing)),
            ("/models/{id:path}", self._call(models.ONE_METHOD, GETTING, self.models.retrieved)),
        )
        routes = [Route(prefix + path, endpoint) for prefix in PREFIXES for path, endpoint in places]
        routes.append(Route("/openapi.json", self._endpoint(GETTING, describe)))
        if self.console is not None:
            routes += self._console(self.console)
        return Router(routes, redirect_slashes=False, default=self._endpoint((), _no_such_path))

    def _console(self, console: Console) -> list[Route]:
        guarded: tuple[tuple[str, Handler], ...] = (
            ("/", console.page),
            ("/console/figures", console.count),
            ("/console/models", self._asked(MODELS_METHOD, self.models.everything)),
        )
        return [Route(path, self._endpoint(GETTING, self._local(handler))) for path, handler in guarded]

    def _local(self, handler: Handler) -> Handler:
        """The same, for pages of this machine's own names where no others are served."""

        async def run(exchange: Exchange) -> None:
            fault = foreign_name(exchange) if self.local_pages_only else None
            await (handler(exchange) if fault is None else refuse(exchange, fault))

        return run

    def _call(self, method: str, allowed: tuple[HTTPMethod, ...], work: Work) -> "_Endpoint":
        return self._endpoint(allowed, self._asked(method, work))

    def _asked(self, method: str, work: Work) -> Handler:
        async def run(exchange: Exchange) -> None:
            fault = _refused(exchange, local_pages_only=self.local_pages_only)
            if fault is not None:
                await refuse(exchange, fault)
            else:
                await self.handler.run(exchange, method, work)

        return run

    def _endpoint(self, allowed: tuple[HTTPMethod, ...], handler: Handler) -> "_Endpoint":
        return _Endpoint(allowed, handler, write_timeout_s=self.handler.limits.write_timeout_s)


@final
class _Endpoint:
    """A path as ASGI wants it: any object but a function, which Starlette would wrap."""

    def __init__(self, allowed: tuple[HTTPMethod, ...], handler: Handler, *, write_timeout_s: float) -> None:
        self._allowed = allowed
        self._handler = handler
        self._write_stall_s = write_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, write_timeout_s=self._write_stall_s)
        if self._allowed and exchange.method not in self._allowed:
            await refuse(exchange, _wrong_method(self._allowed))
        else:
            await self._handler(exchange)


async def refuse(exchange: Exchange, fault: ErrorResponse) -> None:
    """Answer what is no call."""
    headers = (
        ("content-type", JSON),
        *_id_of(exchange),
        ("x-error-reason", "INVALID_REQUEST"),
        ("x-should-retry", "false"),
        *fault.headers,
    )
    await exchange.answer(fault.status, headers, fault.body())


async def _no_such_path(exchange: Exchange) -> None:
    message = "there is no such path; see /openapi.json"
    fault = ErrorResponse(status=HTTPStatus.NOT_FOUND, type=INVALID, code="unknown_url", message=message)
    await refuse(exchange, fault)


def _wrong_method(allowed: tuple[HTTPMethod, ...]) -> ErrorResponse:
    return ErrorResponse(
        status=HTTPStatus.METHOD_NOT_ALLOWED,
        type=INVALID,
        code="method_not_allowed",
        message=f"this path takes {' and '.join(allowed)}",
        headers=(("allow", ", ".join(allowed)),),
    )


def _refused(exchange: Exchange, *, local_pages_only: bool) -> ErrorResponse | None:
    """What the headers alone tell."""
    headers = exchange.headers
    provider = headers.get(PROVIDER_HEADER)
    if provider is not None and provider.strip().lower() not in PROVIDERS:
        return ErrorResponse(
            status=HTTPStatus.BAD_REQUEST,
            type=INVALID,
            code="unknown_provider",
            message=f"{PROVIDER_HEADER}: there is no such provider; there is: {', '.join(PROVIDERS)}",
            param=PROVIDER_HEADER,
        )
    origin = headers.get("origin")
    if origin is not None and not _may_ask(
        origin, headers.get("host", ""), local_pages_only=local_pages_only
    ):
        return ErrorResponse(
            status=HTTPStatus.FORBIDDEN,
            type="permission_error",
            code="foreign_origin",
            message="pages of another site may not ask this service",
        )
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if exchange.method == HTTPMethod.POST and media_type != JSON:
        return ErrorResponse(
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            type=INVALID,
            code="unsupported_media_type",
            message=f"send the request as JSON, with the header `content-type: {JSON}`",
        )
    return None


def _may_ask(origin: str, host: str, *, local_pages_only: bool) -> bool:
    try:
        page = urlsplit(origin)
        name = page.hostname
    except ValueError:
        return False
    return page.netloc.lower() == host.lower() and (not local_pages_only or name in LOOPBACK_HOSTS)


def _id_of(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id_or_new(exchange.headers.get("x-request-id", ""))),)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpEnvironment:
    """What is outside of the door: chance, the time of day, who failed lately, its port, whose pages
    may ask, its certificate (None: plain text), and what is known of the service.
    """

    random: Callable[[], float]
    wall_clock: Callable[[], float]
    auth_throttle: AuthThrottle
    version: str
    share_port: bool
    certificates: Certificates | None
    local_pages_only: bool
    figures: Figures | None
    """What the console shows of the service; None: there is no console."""


def create_http_server(
    *,
    sessions: Sessions,
    admission: Admission,
    chat: Chat,
    listing: ModelListing,
    limits: HttpLimits,
    environment: HttpEnvironment,
) -> HttpServer:
    """The front, not yet listening. `chat` checks what it is asked, see `calls.checked`."""
    handler = HttpHandler(
        sessions=sessions,
        admission=admission,
        auth_throttle=environment.auth_throttle,
        limits=limits,
        random=environment.random,
    )
    endpoint = ChatEndpoint(
        chat, max_request_bytes=limits.max_request_bytes, request_read_timeout_s=limits.request_read_timeout_s
    )
    figures = environment.figures
    door = Routes(
        handler=handler,
        chat=endpoint,
        models=ModelsEndpoint(listing),
        console=None if figures is None else Console(handler=handler, figures=figures),
        version=environment.version,
        local_pages_only=environment.local_pages_only,
    )
    return HttpServer(
        handler=handler,
        application=door.application(),
        wall_clock=environment.wall_clock,
        share_port=environment.share_port,
        certificates=environment.certificates,
    )
