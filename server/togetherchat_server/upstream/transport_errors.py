"""Failures of the connection to the provider, each with its reason and one of a fixed set of messages.

The messages never quote an exception: its text could contain a header or a part of the response. Only
an error of the operating system or of TLS is kept as a cause, because those name neither.
"""

import socket
import ssl
from collections.abc import Mapping
from typing import Final, final

from togetherchat_server.domain.reasons import Reason, ServiceError

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


@final
class StaleConnectionError(ServiceError):
    """A reused connection ended at once and without a byte, so its request can be sent again."""

    def __init__(self) -> None:
        super().__init__(Reason.UPSTREAM_RESET, MESSAGES[Reason.UPSTREAM_RESET])


def error(reason: Reason) -> ServiceError:
    return ServiceError(reason, MESSAGES[reason])


def before_response(cause: BaseException | None, otherwise: Reason) -> ServiceError:
    """Return the error for a connection that failed before a response head was received.

    A failed name resolution or TLS handshake is more specific than `otherwise`. With TLS 1.3 a
    handshake also fails after it has ended here: the provider may reject the client afterwards.
    """
    match cause:
        case socket.gaierror():
            return error(Reason.UPSTREAM_DNS_FAILED)
        case ssl.SSLError():
            return error(Reason.UPSTREAM_TLS_FAILED)
        case _:
            return error(otherwise)
