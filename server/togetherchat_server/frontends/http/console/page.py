"""The console: two pages, and the two documents that the first one requests.

The pages are files without secrets, served to every client that can connect. Their scripts request the
data that they show, as any client does and with the same keys. A page's policy lets it load nothing,
run only its own script, create no markup from text, and connect to no other host. It is never shown in
a frame. On a loopback address where the service's key pays, they are only served under this machine's
names: a page of another site whose name resolves to this machine (DNS rebinding) could otherwise read
the metrics.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

import orjson

from togetherchat_server.calls.response_metadata import request_id_or_new
from togetherchat_server.config import LOOPBACK_HOSTS
from togetherchat_server.domain.identity import Scope
from togetherchat_server.frontends.http.exchange import JSON, Exchange
from togetherchat_server.frontends.http.handler import HttpHandler, Operation
from togetherchat_server.frontends.http.openai.errors import ErrorResponse

FOLDER: Final = Path(__file__).parent
CONSOLE_PAGE: Final = "console.html"
USAGE_PAGE: Final = "usage.html"
STATS_METHOD: Final = Operation(name="console.stats", scope=Scope.ADMIN)
"""The figures are those of all tenants."""
MODELS_METHOD: Final = Operation(name="console.models", scope=Scope.MODELS)
SECURITY_HEADERS: Final = (
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)

_INLINE: Final = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)
_INCLUDE: Final = re.compile(rb"<!--include ([a-z_]+\.(?:html|css|js))-->\n")

ConsoleStats = Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Serves the console's own paths."""

    handler: HttpHandler
    read_stats: ConsoleStats

    async def page(self, exchange: Exchange) -> None:
        await _send_page(exchange, CONSOLE_PAGE)

    async def usage_page(self, exchange: Exchange) -> None:
        await _send_page(exchange, USAGE_PAGE)

    async def stats(self, exchange: Exchange) -> None:
        """Send the live metrics. The page polls them every second, so no call record is written."""
        error = await self.handler.rejection(exchange, STATS_METHOD)
        if error is not None:
            await exchange.respond(error.status, (("content-type", JSON), *error.headers), error.body())
            return
        headers = (("content-type", JSON), *SECURITY_HEADERS, *_request_id(exchange))
        await exchange.respond(HTTPStatus.OK, headers, orjson.dumps(self.read_stats()))


def content_security_policy(page: bytes) -> str:
    """Allow the page its own style and script, by their hashes, and requests to its own origin."""
    hashes: dict[str, str] = {}
    for tag, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode("ascii")
        hashes[tag.decode("ascii")] = f"'sha256-{digest}'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes['script']}",
            f"style-src {hashes['style']}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def foreign_name(exchange: Exchange) -> ErrorResponse | None:
    """Return the error for a `host` header that is not a name of this machine; else None."""
    host = exchange.headers.get("host", "")
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) else host
    if name.lower() in LOOPBACK_HOSTS:
        return None
    return ErrorResponse(
        status=HTTPStatus.FORBIDDEN,
        type="permission_error",
        code="foreign_host",
        message="this path is only served under this machine's names: use localhost, 127.0.0.1 or [::1]",
    )


async def _send_page(exchange: Exchange, name: str) -> None:
    body, policy = _page_and_policy(name)
    headers = (
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy),
        *SECURITY_HEADERS,
        *_request_id(exchange),
    )
    await exchange.respond(HTTPStatus.OK, headers, body)


def assembled_page(name: str) -> bytes:
    """Return a page with the files that it includes, so that the browser needs one request for it."""
    return _INCLUDE.sub(
        lambda include: (FOLDER / include[1].decode("ascii")).read_bytes(), (FOLDER / name).read_bytes()
    )


@cache
def _page_and_policy(name: str) -> tuple[bytes, str]:
    body = assembled_page(name)
    return body, content_security_policy(body)


def _request_id(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id_or_new(exchange.headers.get("x-request-id", ""))),)
