"""The paths of the HTTP listener, and the requests that are rejected before a call begins.

An ASGI application without middleware. A request that is rejected here is not a call and leaves no
call record: an unknown path, a wrong method, an unknown provider, or a body that is not declared as
JSON.

Three rules protect against web pages. A page may send a form or plain text to any address without
permission, but a JSON body only to the site that it came from. So a body that is not declared as JSON
is rejected, and so is a request of another site's page, unless the operator allows its origin (see
`origins`). And once a page is loaded, its site's name may be made to resolve to this machine (DNS
rebinding). So where the service's key pays on a loopback address, the page itself must have come from a
loopback name or an allowed origin. Without these rules, any page that a developer opens could spend the
key of a service on the developer's own machine.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from typing import Final, final

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from togetherchat_server.calls.response_metadata import request_id_or_new
from togetherchat_server.calls.sessions import Sessions
from togetherchat_server.config.tls import Certificates
from togetherchat_server.domain.addresses import TrustedProxies
from togetherchat_server.frontends.http.console.page import MODELS_METHOD, Console, ConsoleStats, foreign_name
from togetherchat_server.frontends.http.exchange import JSON, Exchange
from togetherchat_server.frontends.http.handler import Endpoint, HttpHandler, HttpLimits, Operation
from togetherchat_server.frontends.http.openai import chat, models, openapi
from togetherchat_server.frontends.http.openai.chat import ChatEndpoint
from togetherchat_server.frontends.http.openai.errors import INVALID, ErrorResponse
from togetherchat_server.frontends.http.origins import PagePolicy
from togetherchat_server.frontends.http.protocol.listener import ConnectionLimits
from togetherchat_server.frontends.http.server import HttpServer
from togetherchat_server.frontends.http.usage import endpoints as usage

PREFIXES: Final = ("/v1", "")
"""Clients use a base URL with `/v1` or without."""
PROVIDERS: Final = ("together",)
PROVIDER_HEADER: Final = "x-provider"
IDENTITY: Final = "identity"
"""The only content coding: a compressed body has no bound before it is decompressed (RFC 9110 12.5.3)."""
READ_METHODS: Final = (HTTPMethod.GET, HTTPMethod.HEAD)
MISTAKEN_PATHS: Final = (
    (re.compile(r"(/v1)*(/chat/completions)+"), "/v1/chat/completions"),
    (re.compile(r"(/v1)*/models"), "/v1/models"),
    (re.compile(r"(/v1)*/models/.+"), "/v1/models/{id}"),
)
"""Paths that a wrong base URL makes, without double and final slashes, and the path that was meant."""

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The handlers of the paths."""

    handler: HttpHandler
    chat: ChatEndpoint
    console: Console | None
    version: str
    pages: PagePolicy
    local_pages_only: bool
    """Whether the console and reports are only served under this machine's names."""

    def application(self) -> Router:
        """Return the ASGI application."""
        document = openapi.document(self.version, console=self.console is not None)

        async def describe(exchange: Exchange) -> None:
            headers = (("content-type", JSON), *_request_id(exchange))
            await exchange.respond(HTTPStatus.OK, headers, document)

        endpoints: tuple[tuple[str, ASGIApp], ...] = (
            ("/chat/completions", self._call(chat.METHOD, (HTTPMethod.POST,), self.chat.handle)),
            ("/models", self._call(models.LIST_METHOD, READ_METHODS, models.list_models)),
            ("/models/{id:path}", self._call(models.ONE_METHOD, READ_METHODS, models.retrieve_model)),
        )
        routes = [Route(prefix + path, endpoint) for prefix in PREFIXES for path, endpoint in endpoints]
        # Otherwise it would be the model whose id is empty.
        routes[:0] = [Route(f"{prefix}/models/", self._endpoint((), _reject_path)) for prefix in PREFIXES]
        routes.append(Route("/openapi.json", self._endpoint(READ_METHODS, describe)))
        routes += self._reports()
        if self.console is not None:
            routes += self._console(self.console)
        return Router(routes, redirect_slashes=False, default=self._endpoint((), _reject_path))

    def _reports(self) -> list[Route]:
        reports = (
            ("/usage.json", usage.USAGE_METHOD, usage.send_usage_json),
            ("/usage.csv", usage.USAGE_METHOD, usage.send_usage_csv),
            ("/quotas.json", usage.QUOTAS_METHOD, usage.send_quotas),
        )
        return [
            Route(path, self._endpoint(READ_METHODS, self._local(self._as_call(operation, endpoint))))
            for path, operation, endpoint in reports
        ]

    def _console(self, console: Console) -> list[Route]:
        guarded: tuple[tuple[str, Handler], ...] = (
            ("/", console.page),
            ("/usage", console.usage_page),
            ("/console/stats", console.stats),
            ("/console/models", self._as_call(MODELS_METHOD, models.list_all_models)),
        )
        # Pages of other origins cannot read the console, even if their origin is allowed.
        write_timeout_s = self.handler.limits.write_timeout_s
        endpoints = (
            (path, _Endpoint(READ_METHODS, self._local(handler), pages=None, write_timeout_s=write_timeout_s))
            for path, handler in guarded
        )
        return [Route(path, endpoint) for path, endpoint in endpoints]

    def _local(self, handler: Handler) -> Handler:
        """Return the handler, restricted to this machine's own names if `local_pages_only` is set."""

        async def run(exchange: Exchange) -> None:
            error = foreign_name(exchange) if self.local_pages_only else None
            await (handler(exchange) if error is None else reject(exchange, error))

        return run

    def _call(self, operation: Operation, allowed: tuple[HTTPMethod, ...], endpoint: Endpoint) -> "_Endpoint":
        return self._endpoint(allowed, self._as_call(operation, endpoint))

    def _as_call(self, operation: Operation, endpoint: Endpoint) -> Handler:
        async def run(exchange: Exchange) -> None:
            error = _check_headers(exchange, self.pages)
            if error is not None:
                await reject(exchange, error)
            else:
                await self.handler.run(exchange, operation, endpoint)

        return run

    def _endpoint(self, allowed: tuple[HTTPMethod, ...], handler: Handler) -> "_Endpoint":
        write_timeout_s = self.handler.limits.write_timeout_s
        return _Endpoint(allowed, handler, pages=self.pages, write_timeout_s=write_timeout_s)


@final
class _Endpoint:
    """An ASGI application for one path: an object, since Starlette would wrap a function."""

    def __init__(
        self,
        allowed: tuple[HTTPMethod, ...],
        handler: Handler,
        *,
        pages: PagePolicy | None,
        write_timeout_s: float,
    ) -> None:
        """`pages`: who may read the responses beside this site's own pages; None: no other page."""
        self._allowed = allowed
        self._handler = handler
        self._pages = pages
        self._write_timeout_s = write_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, write_timeout_s=self._write_timeout_s)
        preflight = None
        if self._pages is not None:
            exchange.common_headers = self._pages.headers(exchange.headers.get("origin"))
            preflight = self._pages.preflight(exchange.method, exchange.headers)
        if preflight is not None:
            await exchange.start(HTTPStatus.NO_CONTENT, (*preflight, *_request_id(exchange)))
            await exchange.end()
        elif self._allowed and exchange.method not in self._allowed:
            await reject(exchange, _wrong_method(self._allowed))
        else:
            await self._handler(exchange)


async def reject(exchange: Exchange, error: ErrorResponse) -> None:
    """Send the error of a request that is not a call."""
    headers = (
        ("content-type", JSON),
        *_request_id(exchange),
        ("x-error-reason", "INVALID_REQUEST"),
        ("x-should-retry", "false"),
        *error.headers,
    )
    await exchange.respond(error.status, headers, error.body())


async def _reject_path(exchange: Exchange) -> None:
    path = re.sub("/+", "/", exchange.path.rstrip("/"))
    meant = next((path_ for pattern, path_ in MISTAKEN_PATHS if pattern.fullmatch(path)), None)
    paths = ", ".join(path_ for _, path_ in MISTAKEN_PATHS)
    message = f"unknown path; use {meant}" if meant else f"unknown path; there are {paths} and /openapi.json"
    error = ErrorResponse(status=HTTPStatus.NOT_FOUND, type=INVALID, code="unknown_url", message=message)
    await reject(exchange, error)


def _wrong_method(allowed: tuple[HTTPMethod, ...]) -> ErrorResponse:
    return ErrorResponse(
        status=HTTPStatus.METHOD_NOT_ALLOWED,
        type=INVALID,
        code="method_not_allowed",
        message=f"this path supports {' and '.join(allowed)}",
        headers=(("allow", ", ".join(allowed)),),
    )


def _check_headers(exchange: Exchange, pages: PagePolicy) -> ErrorResponse | None:
    """Return the error of a request whose headers alone are not acceptable; else None."""
    headers = exchange.headers
    provider = headers.get(PROVIDER_HEADER)
    if provider is not None and provider.strip().lower() not in PROVIDERS:
        return ErrorResponse(
            status=HTTPStatus.BAD_REQUEST,
            type=INVALID,
            code="unknown_provider",
            message=f"{PROVIDER_HEADER}: unknown provider; supported: {', '.join(PROVIDERS)}",
            param=PROVIDER_HEADER,
        )
    if not pages.accepts(headers, exchange.host):
        return ErrorResponse(
            status=HTTPStatus.FORBIDDEN,
            type="permission_error",
            code="foreign_origin",
            message="requests of another site's pages are not allowed, unless --http-allowed-origins names "
            "their origin",
        )
    coding = headers.get("content-encoding", IDENTITY).strip().lower()
    if coding != IDENTITY:
        return ErrorResponse(
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            type=INVALID,
            code="unsupported_content_encoding",
            message="send the request without compression, without the header `content-encoding`",
            headers=(("accept-encoding", IDENTITY),),
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


def _request_id(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id_or_new(exchange.headers.get("x-request-id", ""))),)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpEnvironment:
    """What the process provides to the HTTP frontend."""

    random: Callable[[], float]
    wall_clock: Callable[[], float]
    version: str
    share_port: bool
    certificates: Certificates | None
    """None for plaintext."""
    local_pages_only: bool
    """Whether pages must have come from a name of this machine, or from an allowed origin."""
    allowed_origins: Collection[str]
    trusted_proxies: TrustedProxies
    connections_max: int
    idle_timeout_s: float
    """Time without a request after which a connection is closed."""
    console_stats: ConsoleStats | None
    """The console's live metrics; None without a console."""


def create_http_server(*, sessions: Sessions, limits: HttpLimits, environment: HttpEnvironment) -> HttpServer:
    """Return the HTTP server, not yet listening."""
    handler = HttpHandler(sessions=sessions, limits=limits, random=environment.random)
    console_stats = environment.console_stats
    routes = Routes(
        handler=handler,
        chat=ChatEndpoint(limits),
        console=None if console_stats is None else Console(handler=handler, read_stats=console_stats),
        version=environment.version,
        pages=PagePolicy(
            allowed=environment.allowed_origins,
            local_pages_only=environment.local_pages_only,
            trusted_proxies=environment.trusted_proxies,
        ),
        local_pages_only=environment.local_pages_only,
    )
    return HttpServer(
        application=routes.application(),
        wall_clock=environment.wall_clock,
        share_port=environment.share_port,
        certificates=environment.certificates,
        trusted_proxies=environment.trusted_proxies,
        limits=ConnectionLimits(
            idle_s=environment.idle_timeout_s, connections_max=environment.connections_max
        ),
    )
