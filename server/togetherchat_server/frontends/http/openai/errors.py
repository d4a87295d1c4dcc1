"""Maps a `ServiceError` to an HTTP status and an error body in OpenAI's format.

Pure: a `ServiceError` and its `Call` go in, an `ErrorResponse` comes out. OpenAI's clients obey
`x-should-retry` before anything else; without it they retry 408, 409, 429 and every status from 500
up. So every failure carries it, with `false` if the provider may have processed and billed the call.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson

from togetherchat_server.calls.response_metadata import (
    ResponseMetadata,
    request_id_or_new,
    response_metadata,
    retry_delay_s,
)
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason, ServiceError, sanitise

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that disconnected. Never sent; it appears in the call record."""

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row of the table. `code` is the reason's name in lower case unless given."""

    status: int
    type: str
    code: str = ""


RATE_LIMIT: Final = ErrorRow(429, "rate_limit_error", "rate_limit_exceeded")
BUDGET: Final = ErrorRow(429, "insufficient_quota", "insufficient_quota")
"""A budget is used up. OpenAI's clients retry every other 429."""
INVALID_KEY: Final = ErrorRow(401, "authentication_error", "invalid_api_key")

ROWS: Final[Mapping[Reason, ErrorRow]] = {
    Reason.INVALID_REQUEST: ErrorRow(400, INVALID),
    Reason.REQUEST_TOO_LARGE: ErrorRow(413, INVALID),
    Reason.CONTEXT_LENGTH_EXCEEDED: ErrorRow(400, INVALID),
    Reason.MODEL_NOT_FOUND: ErrorRow(404, INVALID),
    Reason.UPSTREAM_INVALID_REQUEST: ErrorRow(400, INVALID),
    Reason.MISSING_CREDENTIALS: ErrorRow(401, "authentication_error"),
    Reason.INVALID_CREDENTIALS: INVALID_KEY,
    Reason.CALLER_KEY_REJECTED: INVALID_KEY,
    Reason.MODEL_NOT_ALLOWED: ErrorRow(403, "permission_error"),
    Reason.CALLER_NOT_PERMITTED: ErrorRow(403, "permission_error"),
    Reason.CALLER_QUOTA: RATE_LIMIT,
    Reason.CALLER_DEADLINE: ErrorRow(504, "timeout_error"),
    Reason.CALLER_CANCELLED: ErrorRow(CLIENT_CLOSED_REQUEST, "cancelled"),
    Reason.CALLER_STALLED: ErrorRow(408, "timeout_error"),
    Reason.SERVICE_KEY_REJECTED: ErrorRow(401, "authentication_error"),
    Reason.SPEND_LIMIT_REACHED: ErrorRow(402, "insufficient_quota"),
    Reason.QUOTA_EXHAUSTED: ErrorRow(429, "insufficient_quota", "insufficient_quota"),
    Reason.RATE_LIMITED: RATE_LIMIT,
    Reason.RATE_LIMITED_REQUESTS: RATE_LIMIT,
    Reason.RATE_LIMITED_TOKENS: RATE_LIMIT,
    Reason.UPSTREAM_PERMISSION_DENIED: ErrorRow(403, "permission_error"),
    Reason.UPSTREAM_CONNECT_FAILED: ErrorRow(502, SERVER),
    Reason.UPSTREAM_DNS_FAILED: ErrorRow(502, SERVER),
    Reason.UPSTREAM_CONNECT_TIMEOUT: ErrorRow(502, SERVER),
    Reason.UPSTREAM_TLS_FAILED: ErrorRow(502, SERVER),
    Reason.UPSTREAM_EDGE_BLOCKED: ErrorRow(502, SERVER),
    Reason.UPSTREAM_EDGE_ERROR: ErrorRow(502, SERVER),
    Reason.UPSTREAM_EDGE_UNREACHABLE: ErrorRow(502, SERVER),
    Reason.UPSTREAM_BAD_GATEWAY: ErrorRow(502, SERVER),
    Reason.UPSTREAM_ENDPOINT_NOT_FOUND: ErrorRow(502, SERVER),
    Reason.UPSTREAM_CONFLICT: ErrorRow(409, SERVER),
    Reason.UPSTREAM_CLOSED: ErrorRow(502, SERVER),
    Reason.UPSTREAM_INTERNAL: ErrorRow(500, SERVER),
    Reason.UPSTREAM_UNIMPLEMENTED: ErrorRow(501, SERVER),
    Reason.UPSTREAM_OVERLOADED: ErrorRow(503, SERVER),
    Reason.UPSTREAM_ENDPOINT_NOT_RUNNING: ErrorRow(503, SERVER),
    Reason.UPSTREAM_UNEXPECTED_STATUS: ErrorRow(502, SERVER),
    Reason.UPSTREAM_STREAM_ERROR: ErrorRow(502, SERVER),
    Reason.UPSTREAM_MALFORMED_RESPONSE: ErrorRow(502, SERVER),
    Reason.UPSTREAM_TOO_LARGE: ErrorRow(502, SERVER),
    Reason.UPSTREAM_RESET: ErrorRow(502, SERVER),
    Reason.UPSTREAM_TRUNCATED: ErrorRow(502, SERVER),
    Reason.UPSTREAM_REQUEST_TIMEOUT: ErrorRow(503, "timeout_error"),
    Reason.UPSTREAM_GATEWAY_TIMEOUT: ErrorRow(504, "timeout_error"),
    Reason.FIRST_TOKEN_TIMEOUT: ErrorRow(504, "timeout_error"),
    Reason.STREAM_IDLE_TIMEOUT: ErrorRow(504, "timeout_error"),
    Reason.CALL_TIMEOUT: ErrorRow(504, "timeout_error"),
    Reason.AUTHENTICATION_UNAVAILABLE: ErrorRow(503, SERVER),
    Reason.USAGE_UNAVAILABLE: ErrorRow(503, SERVER),
    Reason.USAGE_NOT_RECORDED: ErrorRow(501, SERVER),
    Reason.OVERLOADED: ErrorRow(503, SERVER),
    Reason.DRAINING: ErrorRow(503, SERVER),
    Reason.INTERNAL_ERROR: ErrorRow(500, SERVER),
}

# Field paths of `CompleteRequest` to those of OpenAI's API.
FIELD_PATHS: Final = (
    (re.compile(r"\.image\.url\b"), ".image_url.url"),
    (re.compile(r"\.(video_url|audio_url)\b"), r".\1.url"),
    (re.compile(r"\.audio\."), ".input_audio."),
    (re.compile(r"\bextra_body_json\b"), "the members that are not part of this API"),
    (re.compile(r"\b(parameters|schema|chat_template_kwargs)_json\b"), r"\1"),
    (re.compile(r"\breasoning_enabled\b"), "reasoning.enabled"),
)
_ROLE: Final = re.compile(r"\bROLE_([A-Z]+)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorResponse:
    """The response of a failed request."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    headers: ResponseMetadata = ()

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


def error_response(error: ServiceError, call: Call, *, output_sent: bool, fraction: float) -> ErrorResponse:
    """Return the response of a failed call. `fraction` is a random number from 0 to 1 for the jitter."""
    exhausted = error.reason is Reason.CALLER_QUOTA and not error.retryable
    row = BUDGET if exhausted else ROWS[error.reason]
    retryable = error.retryable and not output_sent
    delay = ()
    if retryable:
        delay = _delay_headers(retry_delay_s(error.retry_after_s, call.previous_attempts, fraction))
    elif error.reason.row.passes_after_s is not None and not output_sent:
        delay = _delay_headers(error.reason.row.passes_after_s)
    return ErrorResponse(
        status=row.status,
        type=row.type,
        code=row.code or error.reason.lower(),
        message=_in_openai_terms(sanitise(error.message)),
        param=_param(error),
        headers=(
            *response_metadata(call),
            ("x-error-reason", error.reason.value),
            ("x-should-retry", "true" if retryable else "false"),
            *delay,
        ),
    )


def rejection(status: HTTPStatus, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the headers and the body for bytes that are not a valid request."""
    kind = INVALID if status < HTTPStatus.INTERNAL_SERVER_ERROR else SERVER
    body = ErrorResponse(status=status, type=kind, code=status.name.lower(), message=message).body()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"x-request-id", request_id_or_new("").encode("ascii")),
        (b"x-should-retry", b"false"),
    ]
    return headers, body


def _delay_headers(seconds: float) -> ResponseMetadata:
    """Return HTTP's header in whole seconds, and the finer one that OpenAI's clients read first."""
    return ("retry-after", str(math.ceil(seconds))), ("retry-after-ms", str(math.ceil(seconds * 1000)))


def _param(error: ServiceError) -> str | None:
    field = error.violations[0].field if error.violations else ""
    if error.reason is Reason.MODEL_NOT_FOUND:
        field = "model"
    if field in {"", "extra_body_json"}:
        return None
    return sanitise(_in_openai_terms(field))


def _in_openai_terms(text: str) -> str:
    """Translate the field paths and roles in a text of ours to OpenAI's."""
    for ours, theirs in FIELD_PATHS:
        text = ours.sub(theirs, text)
    return _ROLE.sub(lambda role: role[1].lower(), text)
