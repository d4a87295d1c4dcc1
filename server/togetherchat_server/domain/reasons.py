"""The reasons for which a call can fail, and the exception that carries one.

The list of reasons is closed and belongs to no protocol. A frontend maps a reason to its statuses by
a table (`frontends/grpc/status.py`, `frontends/http/openai/errors.py`). A provider maps responses to
reasons by a table (`providers/together/errors.py`).

    ServiceError
      the request      INVALID_REQUEST, REQUEST_TOO_LARGE, CONTEXT_LENGTH_EXCEEDED,
                       MODEL_NOT_FOUND, UPSTREAM_INVALID_REQUEST
      the caller       MISSING_CREDENTIALS, INVALID_CREDENTIALS, CALLER_KEY_REJECTED,
                       MODEL_NOT_ALLOWED, CALLER_QUOTA, CALLER_DEADLINE,
                       CALLER_CANCELLED, CALLER_STALLED
      the account      SERVICE_KEY_REJECTED, SPEND_LIMIT_REACHED, QUOTA_EXHAUSTED,
                       RATE_LIMITED, RATE_LIMITED_REQUESTS, RATE_LIMITED_TOKENS,
                       UPSTREAM_PERMISSION_DENIED
      the connection   UPSTREAM_CONNECT_FAILED, UPSTREAM_DNS_FAILED,
                       UPSTREAM_CONNECT_TIMEOUT, UPSTREAM_TLS_FAILED,
                       UPSTREAM_EDGE_BLOCKED, UPSTREAM_EDGE_ERROR,
                       UPSTREAM_EDGE_UNREACHABLE, UPSTREAM_EDGE_CERTIFICATE,
                       UPSTREAM_BAD_GATEWAY, UPSTREAM_ENDPOINT_NOT_FOUND
      the response     UPSTREAM_CONFLICT, UPSTREAM_CLOSED, UPSTREAM_INTERNAL,
                       UPSTREAM_UNIMPLEMENTED, UPSTREAM_OVERLOADED,
                       UPSTREAM_ENDPOINT_NOT_RUNNING,
                       UPSTREAM_UNEXPECTED_STATUS, UPSTREAM_UNEXPECTED_SERVER_STATUS,
                       UPSTREAM_STREAM_ERROR, UPSTREAM_MALFORMED_RESPONSE,
                       UPSTREAM_TOO_LARGE, UPSTREAM_RESET, UPSTREAM_TRUNCATED
      time             UPSTREAM_REQUEST_TIMEOUT, UPSTREAM_GATEWAY_TIMEOUT,
                       FIRST_TOKEN_TIMEOUT, STREAM_IDLE_TIMEOUT, CALL_TIMEOUT
      this service     OVERLOADED, DRAINING, INTERNAL_ERROR
"""

import enum
from dataclasses import dataclass
from typing import Final, final

TEXT_CHARACTERS_MAX = 256


@final
class Reason(enum.StrEnum):
    """Why a call failed. The table of every frontend must be total over these."""

    INVALID_REQUEST = "INVALID_REQUEST"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    UPSTREAM_INVALID_REQUEST = "UPSTREAM_INVALID_REQUEST"

    MISSING_CREDENTIALS = "MISSING_CREDENTIALS"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    CALLER_KEY_REJECTED = "CALLER_KEY_REJECTED"
    MODEL_NOT_ALLOWED = "MODEL_NOT_ALLOWED"
    CALLER_QUOTA = "CALLER_QUOTA"
    CALLER_DEADLINE = "CALLER_DEADLINE"
    CALLER_CANCELLED = "CALLER_CANCELLED"
    CALLER_STALLED = "CALLER_STALLED"

    SERVICE_KEY_REJECTED = "SERVICE_KEY_REJECTED"
    SPEND_LIMIT_REACHED = "SPEND_LIMIT_REACHED"
    QUOTA_EXHAUSTED = "QUOTA_EXHAUSTED"
    RATE_LIMITED = "RATE_LIMITED"
    RATE_LIMITED_REQUESTS = "RATE_LIMITED_REQUESTS"
    RATE_LIMITED_TOKENS = "RATE_LIMITED_TOKENS"
    UPSTREAM_PERMISSION_DENIED = "UPSTREAM_PERMISSION_DENIED"

    UPSTREAM_CONNECT_FAILED = "UPSTREAM_CONNECT_FAILED"
    UPSTREAM_DNS_FAILED = "UPSTREAM_DNS_FAILED"
    UPSTREAM_CONNECT_TIMEOUT = "UPSTREAM_CONNECT_TIMEOUT"
    UPSTREAM_TLS_FAILED = "UPSTREAM_TLS_FAILED"
    UPSTREAM_EDGE_BLOCKED = "UPSTREAM_EDGE_BLOCKED"
    UPSTREAM_EDGE_ERROR = "UPSTREAM_EDGE_ERROR"
    UPSTREAM_EDGE_UNREACHABLE = "UPSTREAM_EDGE_UNREACHABLE"
    UPSTREAM_EDGE_CERTIFICATE = "UPSTREAM_EDGE_CERTIFICATE"
    UPSTREAM_BAD_GATEWAY = "UPSTREAM_BAD_GATEWAY"
    UPSTREAM_ENDPOINT_NOT_FOUND = "UPSTREAM_ENDPOINT_NOT_FOUND"

    UPSTREAM_CONFLICT = "UPSTREAM_CONFLICT"
    UPSTREAM_CLOSED = "UPSTREAM_CLOSED"
    UPSTREAM_INTERNAL = "UPSTREAM_INTERNAL"
    UPSTREAM_UNIMPLEMENTED = "UPSTREAM_UNIMPLEMENTED"
    UPSTREAM_OVERLOADED = "UPSTREAM_OVERLOADED"
    UPSTREAM_ENDPOINT_NOT_RUNNING = "UPSTREAM_ENDPOINT_NOT_RUNNING"
    UPSTREAM_UNEXPECTED_STATUS = "UPSTREAM_UNEXPECTED_STATUS"
    UPSTREAM_UNEXPECTED_SERVER_STATUS = "UPSTREAM_UNEXPECTED_SERVER_STATUS"
    UPSTREAM_STREAM_ERROR = "UPSTREAM_STREAM_ERROR"
    UPSTREAM_MALFORMED_RESPONSE = "UPSTREAM_MALFORMED_RESPONSE"
    UPSTREAM_TOO_LARGE = "UPSTREAM_TOO_LARGE"
    UPSTREAM_RESET = "UPSTREAM_RESET"
    UPSTREAM_TRUNCATED = "UPSTREAM_TRUNCATED"

    UPSTREAM_REQUEST_TIMEOUT = "UPSTREAM_REQUEST_TIMEOUT"
    UPSTREAM_GATEWAY_TIMEOUT = "UPSTREAM_GATEWAY_TIMEOUT"
    FIRST_TOKEN_TIMEOUT = "FIRST_TOKEN_TIMEOUT"  # noqa: S105  a name, no password
    STREAM_IDLE_TIMEOUT = "STREAM_IDLE_TIMEOUT"
    CALL_TIMEOUT = "CALL_TIMEOUT"

    OVERLOADED = "OVERLOADED"
    DRAINING = "DRAINING"
    INTERNAL_ERROR = "INTERNAL_ERROR"


FALLS_BACK: Final = frozenset(
    {
        Reason.MODEL_NOT_FOUND,
        Reason.RATE_LIMITED,
        Reason.RATE_LIMITED_REQUESTS,
        Reason.RATE_LIMITED_TOKENS,
        Reason.UPSTREAM_OVERLOADED,
        Reason.UPSTREAM_ENDPOINT_NOT_RUNNING,
    }
)
"""Reasons after which a fallback model is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One invalid field of a request; `field` is a path such as `messages[2].content[0].text`."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderErrorInfo:
    """What the provider reported about a failure, sanitised."""

    http_status: int | None = None
    error_type: str = ""
    error_code: str = ""


class ServiceError(Exception):
    """A call failed for a known reason.

    `message` is for the caller: it holds no key, no prompt, no stack, and no text from the provider
    that did not pass `sanitise`. `retry_after_s` is the delay, in seconds, that the provider or one
    of our limits requires; None if there is none.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retry_after_s: float | None = None,
        violations: tuple[FieldViolation, ...] = (),
        upstream: ProviderErrorInfo | None = None,
    ) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.violations = violations
        self.upstream = upstream

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def sanitise(text: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Make foreign text fit for a status: one line, printable, bounded."""
    printable = "".join(
        character if character.isprintable() else " " for character in text[: characters_max * 4]
    )
    line = " ".join(printable.split())
    return line if len(line) <= characters_max else line[: characters_max - 1] + "…"
