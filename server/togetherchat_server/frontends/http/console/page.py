"""The console: one page, and the two documents that it asks for.

The page is a file without secrets, served to whoever reaches the door: everything that it shows
it asks for, as any client does and with the same keys. Its policy lets it load nothing, run
nothing but its own script, make no markup out of text, and speak to no other host. It is shown
in no frame, and only under this machine's names where the service's key pays on a loopback
address: a page that bends a name of its own to this machine would otherwise read the figures.
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

from togetherchat_server.calls.session import request_id_or_new
from togetherchat_server.config import LOOPBACK_HOSTS
from togetherchat_server.frontends.http.exchange import JSON, Exchange
from togetherchat_server.frontends.http.handler import HttpHandler
from togetherchat_server.frontends.http.openai.errors import ErrorResponse

PAGE: Final = Path(__file__).with_name("console.html")
FIGURES_METHOD: Final = "console.figures"
MODELS_METHOD: Final = "console.models"
GUARDS: Final = (
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)

_INLINE: Final = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)

Figures = Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What the console's own paths answer with."""

    handler: HttpHandler
    figures: Figures

    async def page(self, exchange: Exchange) -> None:
        body, policy = _page()
        kind = ("content-type", "text/html; charset=utf-8")
        headers = (kind, ("content-security-policy", policy), *GUARDS, *_id_of(exchange))
        await exchange.answer(HTTPStatus.OK, headers, body)

    async def count(self, exchange: Exchange) -> None:
        """The live figures. No call: it is asked for every second and leaves no record."""
        fault = self.handler.refusal(exchange, FIGURES_METHOD)
        if fault is not None:
            await exchange.answer(fault.status, (("content-type", JSON), *fault.headers), fault.body())
            return
        headers = (("content-type", JSON), *GUARDS, *_id_of(exchange))
        await exchange.answer(HTTPStatus.OK, headers, orjson.dumps(self.figures()))


def policy_of(page: bytes) -> str:
    """What the page may do: its own style and script by their hashes, and to ask where it came from."""
    hashes: dict[str, str] = {}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode("ascii")
        hashes[kind.decode("ascii")] = f"'sha256-{digest}'"
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
    """What is answered to a page whose name is none of this machine's."""
    host = exchange.headers.get("host", "")
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) else host
    if name.lower() in LOOPBACK_HOSTS:
        return None
    return ErrorResponse(
        status=HTTPStatus.FORBIDDEN,
        type="permission_error",
        code="foreign_host",
        message="the console is served under this machine's own names: localhost, 127.0.0.1 or [::1]",
    )


@cache
def _page() -> tuple[bytes, str]:
    body = PAGE.read_bytes()
    return body, policy_of(body)


def _id_of(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id_or_new(exchange.headers.get("x-request-id", ""))),)
