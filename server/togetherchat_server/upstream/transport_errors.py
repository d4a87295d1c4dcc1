"""Maps what httpx raises to a `ServiceError` with one of a fixed set of messages.

The messages never quote an exception: its text could contain a header or a part of the response.
"""

import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Final

import httpx

from togetherchat_server.domain.reasons import Reason, ServiceError

CAUSES_MAX: Final = 8

ReasonTable = tuple[tuple[type[BaseException], Reason], ...]

# Tables are read from the top: the first matching row applies.
# Before the response, the cause of a failure is more specific than the failure itself.
CAUSES: Final[ReasonTable] = (
    (socket.gaierror, Reason.UPSTREAM_DNS_FAILED),
    (ssl.SSLError, Reason.UPSTREAM_TLS_FAILED),
)
BEFORE_RESPONSE: Final[ReasonTable] = (
    (httpx.PoolTimeout, Reason.OVERLOADED),
    (httpx.ConnectTimeout, Reason.UPSTREAM_CONNECT_TIMEOUT),
    (httpx.ConnectError, Reason.UPSTREAM_CONNECT_FAILED),
    (httpx.ProxyError, Reason.UPSTREAM_CONNECT_FAILED),
    (httpx.RemoteProtocolError, Reason.UPSTREAM_MALFORMED_RESPONSE),
    (httpx.LocalProtocolError, Reason.INTERNAL_ERROR),
    (httpx.UnsupportedProtocol, Reason.INTERNAL_ERROR),
    (httpx.RequestError, Reason.UPSTREAM_RESET),
)
IN_RESPONSE: Final[ReasonTable] = (
    (httpx.DecodingError, Reason.UPSTREAM_MALFORMED_RESPONSE),
    (httpx.RequestError, Reason.UPSTREAM_TRUNCATED),
)
MESSAGES: Final[Mapping[Reason, str]] = {
    Reason.OVERLOADED: "every connection to the provider is in use",
    Reason.UPSTREAM_DNS_FAILED: "the provider's host name could not be resolved",
    Reason.UPSTREAM_TLS_FAILED: "the TLS handshake with the provider failed",
    Reason.UPSTREAM_CONNECT_TIMEOUT: "connecting to the provider timed out",
    Reason.UPSTREAM_CONNECT_FAILED: "the connection to the provider failed",
    Reason.UPSTREAM_MALFORMED_RESPONSE: "the provider's response could not be read",
    Reason.UPSTREAM_RESET: "the connection to the provider broke before it responded",
    Reason.UPSTREAM_TRUNCATED: "the provider's response ended early",
    Reason.UPSTREAM_TOO_LARGE: "the provider's response is larger than this service accepts",
    Reason.INTERNAL_ERROR: "the request to the provider could not be built",
}


def error(reason: Reason) -> ServiceError:
    return ServiceError(reason, MESSAGES[reason])


def before_response(failure: httpx.RequestError) -> ServiceError:
    """Return the error for a request that failed before the response head was received."""
    specific = (reason for cause in _causes(failure) for kind, reason in CAUSES if isinstance(cause, kind))
    return error(next(specific, _first_match(BEFORE_RESPONSE, failure)))


def in_response(failure: httpx.RequestError) -> ServiceError:
    """Return the error for a response whose body could not be read to its end."""
    return error(_first_match(IN_RESPONSE, failure))


def _first_match(table: ReasonTable, failure: BaseException) -> Reason:
    return next(reason for kind, reason in table if isinstance(failure, kind))


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """The chain of causes, bounded because it can be a circle."""
    cause: BaseException | None = failure
    for _ in range(CAUSES_MAX):
        cause = cause.__cause__ or cause.__context__
        if cause is None:
            return
        yield cause
