"""The reasons that the client sets when the service sent none: not connected, or a proxy's answer.

Owns the table. It equals `clients/conformance/client_reasons.json`, which all clients follow. The HTTP
status of a proxy is read from gRPC's status message, because gRPC has it nowhere else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc

NOT_CONNECTED: Final = "NOT_CONNECTED"
PROXY_ACCESS_DENIED: Final = "PROXY_ACCESS_DENIED"
PROXY_ERROR: Final = "PROXY_ERROR"
PROXY_NO_ROUTE: Final = "PROXY_NO_ROUTE"
PROXY_RATE_LIMITED: Final = "PROXY_RATE_LIMITED"
PROXY_REQUEST_TOO_LARGE: Final = "PROXY_REQUEST_TOO_LARGE"
PROXY_UNAVAILABLE: Final = "PROXY_UNAVAILABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientReason:
    """A reason that the client sets itself."""

    reason: str
    retryable: bool | None
    hint: str
    """One sentence that says what to check."""


REASONS: Final[Mapping[str, ClientReason]] = {
    each.reason: each
    for each in (
        ClientReason(
            reason=NOT_CONNECTED,
            retryable=True,
            hint="the service was not reached, or the connection was lost; check the target, TLS on both"
            " sides, and that the service is running",
        ),
        ClientReason(
            reason=PROXY_ACCESS_DENIED,
            retryable=False,
            hint="a proxy rejected the call; check its access rules",
        ),
        ClientReason(
            reason=PROXY_NO_ROUTE,
            retryable=False,
            hint="an HTTP server without this method answered; check the target and the routes of the proxy",
        ),
        ClientReason(
            reason=PROXY_REQUEST_TOO_LARGE,
            retryable=False,
            hint="a proxy rejected the size of the request; raise its limit (in nginx, client_max_body_size)",
        ),
        ClientReason(
            reason=PROXY_RATE_LIMITED,
            retryable=True,
            hint="a proxy limits the calls; wait before the next one",
        ),
        ClientReason(
            reason=PROXY_UNAVAILABLE,
            retryable=True,
            hint="a proxy did not reach the service; check the address that the proxy calls, and that it"
            " speaks HTTP/2 to the service",
        ),
        ClientReason(
            reason=PROXY_ERROR,
            retryable=None,
            hint="a proxy answered with an HTTP error instead of a gRPC status; see its log",
        ),
    )
}

REASON_BY_HTTP_STATUS: Final[Mapping[int, str]] = {
    401: PROXY_ACCESS_DENIED,
    403: PROXY_ACCESS_DENIED,
    404: PROXY_NO_ROUTE,
    413: PROXY_REQUEST_TOO_LARGE,
    429: PROXY_RATE_LIMITED,
    502: PROXY_UNAVAILABLE,
    503: PROXY_UNAVAILABLE,
    504: PROXY_UNAVAILABLE,
}

_HTTP_STATUS: Final = re.compile(r"Received http2 header with status: (\d{3})")
# A gRPC server ends each stream with trailers. For an asyncio stream, gRPC's core often reports this, with
# the code UNKNOWN, instead of the HTTP status of a proxy's page.
_NO_TRAILERS: Final = "Stream removed"


def client_reason(code: grpc.StatusCode, message: str) -> ClientReason | None:
    """Return the reason of a failure without one, by its code and gRPC's message. None if unknown."""
    found = _HTTP_STATUS.search(message)
    if found is not None:
        return REASONS[REASON_BY_HTTP_STATUS.get(int(found[1]), PROXY_ERROR)]
    if code is grpc.StatusCode.UNKNOWN and message.startswith(_NO_TRAILERS):
        return REASONS[PROXY_ERROR]
    return REASONS[NOT_CONNECTED] if code is grpc.StatusCode.UNAVAILABLE else None
