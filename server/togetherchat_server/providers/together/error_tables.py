"""Tables of Together's failures: statuses, error codes, messages.

Sources: the error-codes and rate-limits pages of docs.together.ai, and recorded errors.
"""

from collections.abc import Mapping
from typing import Final

from togetherchat_server.domain.reasons import Blame, Reason

STATUS: Final[Mapping[int, Reason]] = {
    400: Reason.UPSTREAM_INVALID_REQUEST,
    401: Reason.SERVICE_KEY_REJECTED,
    402: Reason.SPEND_LIMIT_REACHED,
    403: Reason.UPSTREAM_PERMISSION_DENIED,
    404: Reason.UPSTREAM_ENDPOINT_NOT_FOUND,
    408: Reason.UPSTREAM_REQUEST_TIMEOUT,
    409: Reason.UPSTREAM_CONFLICT,
    413: Reason.REQUEST_TOO_LARGE,
    422: Reason.UPSTREAM_INVALID_REQUEST,
    429: Reason.RATE_LIMITED,
    499: Reason.UPSTREAM_CLOSED,
    500: Reason.UPSTREAM_INTERNAL,
    501: Reason.UPSTREAM_UNIMPLEMENTED,
    502: Reason.UPSTREAM_BAD_GATEWAY,
    503: Reason.UPSTREAM_OVERLOADED,
    504: Reason.UPSTREAM_GATEWAY_TIMEOUT,
    520: Reason.UPSTREAM_EDGE_ERROR,
    521: Reason.UPSTREAM_EDGE_UNREACHABLE,
    522: Reason.UPSTREAM_EDGE_UNREACHABLE,
    523: Reason.UPSTREAM_EDGE_UNREACHABLE,
    524: Reason.UPSTREAM_GATEWAY_TIMEOUT,
    525: Reason.UPSTREAM_EDGE_UNREACHABLE,
    526: Reason.UPSTREAM_EDGE_UNREACHABLE,
    529: Reason.UPSTREAM_OVERLOADED,
    530: Reason.UPSTREAM_EDGE_UNREACHABLE,
}

UNTRUSTED_STATUS: Final = 526
UNTRUSTED_MESSAGE: Final = "the provider's edge does not trust the provider's certificate"
"""Every other status of an unreachable provider may pass by itself."""

CODES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "bad_request": 400,
    "validation_error": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "unauthorized": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found": 404,
    "not_found_error": 404,
    "notfounderror": 404,
    "credit_limit": 429,
    "insufficient_quota": 429,
    "rate_limit": 429,
    "rate_limited": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "too_many_requests": 429,
    "dynamic_request_limited": 429,
    "dynamic_token_limited": 429,
    "internal_error": 500,
    "internal_server_error": 500,
    "internalservererror": 500,
    "server_error": 500,
    "overloaded": 503,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "timeout": 504,
    "timeout_error": 504,
}
"""The status that corresponds to an error code or type inside a stream, if the error contains no status."""

MESSAGES: Final[Mapping[Reason, str]] = {
    Reason.CONTEXT_LENGTH_EXCEEDED: "the request does not fit the model's context",
    Reason.MODEL_NOT_FOUND: "the provider does not serve this model",
    Reason.UPSTREAM_INVALID_REQUEST: "the provider does not accept the request",
    Reason.REQUEST_TOO_LARGE: "the request is too large for the provider",
    Reason.CALLER_KEY_REJECTED: "the provider rejected the key that came with the call",
    Reason.SERVICE_KEY_REJECTED: "the provider rejected this service's key",
    Reason.SPEND_LIMIT_REACHED: "the account's spending limit at the provider is reached",
    Reason.QUOTA_EXHAUSTED: "the account's quota at the provider is used up",
    Reason.RATE_LIMITED: "the provider's rate limit is reached",
    Reason.RATE_LIMITED_REQUESTS: "the provider's request rate limit is reached",
    Reason.RATE_LIMITED_TOKENS: "the provider's token rate limit is reached",
    Reason.UPSTREAM_PERMISSION_DENIED: "the provider does not permit the request",
    Reason.UPSTREAM_EDGE_BLOCKED: "the provider's edge blocked the request",
    Reason.UPSTREAM_EDGE_ERROR: "the provider's edge failed",
    Reason.UPSTREAM_EDGE_UNREACHABLE: "the provider's edge could not reach the provider",
    Reason.UPSTREAM_BAD_GATEWAY: "the provider's gateway received no valid response",
    Reason.UPSTREAM_ENDPOINT_NOT_FOUND: "the provider has no endpoint at the requested URL",
    Reason.UPSTREAM_CONFLICT: "the request conflicts with another one at the provider",
    Reason.UPSTREAM_CLOSED: "the provider closed the request before it responded",
    Reason.UPSTREAM_INTERNAL: "the provider had an internal error",
    Reason.UPSTREAM_UNIMPLEMENTED: "the provider does not support the request",
    Reason.UPSTREAM_OVERLOADED: "the provider is overloaded",
    Reason.UPSTREAM_ENDPOINT_NOT_RUNNING: "the model's dedicated endpoint is not running",
    Reason.UPSTREAM_UNEXPECTED_STATUS: "the provider responded with an unexpected status",
    Reason.UPSTREAM_STREAM_ERROR: "the provider reported an error inside the stream",
    Reason.UPSTREAM_REQUEST_TIMEOUT: "the provider did not receive the whole request in time",
    Reason.UPSTREAM_GATEWAY_TIMEOUT: "the provider did not respond to its gateway in time",
}

QUOTED: Final = frozenset(
    reason for reason in MESSAGES if reason.row.blame is Blame.CALLER and not reason.row.bad_credentials
)
"""Reasons whose message quotes the provider's text, because it helps the caller to fix the request."""
