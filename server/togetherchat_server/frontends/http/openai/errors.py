"""From what went wrong to an HTTP status and an error body of OpenAI's: the table.

Pure: a `ServiceError` and the facts of its call go in, a `Fault` comes out. The official
clients obey `x-should-retry` before anything else, and retry any status from 500 on, 408, 409
and 429 without it: so it is on every failure, and says `false` where the call may have been
worked on, and billed.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from togetherchat_server.calls.session import Facts, come_back_s, facts_of
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Kind, ServiceError, sanitise

CALLER_GONE: Final = 499
"""Nobody hears it: a word for the record, nginx's."""

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: `later` where clients may try again. `code` and `reason` are made of the
    kind's own name unless they are given.
    """

    status: int
    type: str
    later: bool = False
    code: str = ""
    reason: str = ""


ROWS: Final[Mapping[Kind, Row]] = {
    Kind.INVALID_REQUEST: Row(400, INVALID),
    Kind.REQUEST_TOO_LARGE: Row(413, INVALID),
    Kind.CONTEXT_LENGTH_EXCEEDED: Row(400, INVALID),
    Kind.MODEL_NOT_FOUND: Row(404, INVALID),
    Kind.UPSTREAM_INVALID_REQUEST: Row(400, INVALID),
    Kind.MISSING_CREDENTIALS: Row(401, "authentication_error"),
    Kind.INVALID_CREDENTIALS: Row(401, "authentication_error", code="invalid_api_key"),
    Kind.CALLER_KEY_REJECTED: Row(401, "authentication_error", code="invalid_api_key"),
    Kind.MODEL_NOT_ALLOWED: Row(403, "permission_error"),
    Kind.CALLER_QUOTA: Row(429, "rate_limit_error", later=True),
    Kind.CALLER_DEADLINE: Row(504, "timeout_error"),
    Kind.CALLER_CANCELLED: Row(CALLER_GONE, "cancelled"),
    Kind.CALLER_STALLED: Row(408, "timeout_error"),
    Kind.SERVICE_KEY_REJECTED: Row(401, "authentication_error"),
    Kind.SPEND_LIMIT_REACHED: Row(402, "insufficient_quota"),
    Kind.QUOTA_EXHAUSTED: Row(429, "insufficient_quota", code="insufficient_quota"),
    Kind.RATE_LIMITED: Row(429, "rate_limit_error", later=True, code="rate_limit_exceeded"),
    Kind.RATE_LIMITED_REQUESTS: Row(429, "rate_limit_error", later=True, code="rate_limit_exceeded"),
    Kind.RATE_LIMITED_TOKENS: Row(429, "rate_limit_error", later=True, code="rate_limit_exceeded"),
    Kind.UPSTREAM_PERMISSION_DENIED: Row(403, "permission_error"),
    Kind.UPSTREAM_CONNECT_FAILED: Row(502, SERVER, later=True),
    Kind.UPSTREAM_DNS_FAILED: Row(502, SERVER, later=True),
    Kind.UPSTREAM_CONNECT_TIMEOUT: Row(502, SERVER, later=True),
    Kind.UPSTREAM_TLS_FAILED: Row(502, SERVER),
    Kind.UPSTREAM_EDGE_BLOCKED: Row(502, SERVER),
    Kind.UPSTREAM_EDGE_ERROR: Row(502, SERVER, later=True),
    Kind.UPSTREAM_EDGE_UNREACHABLE: Row(502, SERVER, later=True),
    Kind.UPSTREAM_EDGE_CERTIFICATE: Row(502, SERVER, reason="UPSTREAM_EDGE_UNREACHABLE"),
    Kind.UPSTREAM_BAD_GATEWAY: Row(502, SERVER, later=True),
    Kind.UPSTREAM_ENDPOINT_NOT_FOUND: Row(502, SERVER),
    Kind.UPSTREAM_CONFLICT: Row(409, SERVER),
    Kind.UPSTREAM_CLOSED: Row(502, SERVER, later=True),
    Kind.UPSTREAM_INTERNAL: Row(500, SERVER),
    Kind.UPSTREAM_UNIMPLEMENTED: Row(501, SERVER),
    Kind.UPSTREAM_OVERLOADED: Row(503, SERVER, later=True),
    Kind.UPSTREAM_UNEXPECTED_STATUS: Row(502, SERVER),
    Kind.UPSTREAM_UNEXPECTED_SERVER_STATUS: Row(502, SERVER, later=True, reason="UPSTREAM_UNEXPECTED_STATUS"),
    Kind.UPSTREAM_STREAM_ERROR: Row(502, SERVER, later=True),
    Kind.UPSTREAM_MALFORMED_RESPONSE: Row(502, SERVER),
    Kind.UPSTREAM_TOO_LARGE: Row(502, SERVER),
    Kind.UPSTREAM_RESET: Row(502, SERVER),
    Kind.UPSTREAM_TRUNCATED: Row(502, SERVER, later=True),
    Kind.UPSTREAM_REQUEST_TIMEOUT: Row(503, "timeout_error", later=True),
    Kind.UPSTREAM_GATEWAY_TIMEOUT: Row(504, "timeout_error"),
    Kind.FIRST_TOKEN_TIMEOUT: Row(504, "timeout_error"),
    Kind.STREAM_IDLE_TIMEOUT: Row(504, "timeout_error"),
    Kind.CALL_TIMEOUT: Row(504, "timeout_error"),
    Kind.OVERLOADED: Row(503, SERVER, later=True),
    Kind.DRAINING: Row(503, SERVER, later=True),
    Kind.INTERNAL_ERROR: Row(500, SERVER),
}

# The places of a `CompleteRequest` in the words of a client that never saw one.
PLACES: Final = (
    (re.compile(r"\.image\.url\b"), ".image_url.url"),
    (re.compile(r"\.(video_url|audio_url)\b"), r".\1.url"),
    (re.compile(r"\.audio\."), ".input_audio."),
    (re.compile(r"\bextra_body_json\b"), "the members that this service does not know"),
    (re.compile(r"\b(parameters|schema|chat_template_kwargs)_json\b"), r"\1"),
    (re.compile(r"\breasoning_enabled\b"), "reasoning.enabled"),
)
_ROLE: Final = re.compile(r"\bROLE_([A-Z]+)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A failed request as it is answered."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    headers: Facts = ()

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


def fault_of(error: ServiceError, call: Call, *, output_sent: bool, fraction: float) -> Fault:
    """The fault of a failed call; `fraction` is a random number from 0 to 1 for the jitter."""
    row = ROWS[error.kind]
    later = row.later and not output_sent
    reason = row.reason or error.kind.value
    wait = _wait(come_back_s(error.retry_after_s, call.previous_attempts, fraction)) if later else ()
    return Fault(
        status=row.status,
        type=row.type,
        code=row.code or reason.lower(),
        message=_spoken(sanitise(error.message)),
        param=_param(error),
        headers=(
            *facts_of(call),
            ("x-error-reason", reason),
            ("x-should-retry", "true" if later else "false"),
            *wait,
        ),
    )


def _wait(seconds: float) -> Facts:
    """The header in whole seconds that HTTP knows, and the finer one that the clients look at first."""
    return ("retry-after", str(math.ceil(seconds))), ("retry-after-ms", str(math.ceil(seconds * 1000)))


def _param(error: ServiceError) -> str | None:
    field = error.violations[0].field if error.violations else ""
    if error.kind is Kind.MODEL_NOT_FOUND:
        field = "model"
    if field in {"", "extra_body_json"}:
        return None
    return sanitise(_spoken(field))


def _spoken(text: str) -> str:
    for ours, theirs in PLACES:
        text = ours.sub(theirs, text)
    return _ROLE.sub(lambda found: found[1].lower(), text)
