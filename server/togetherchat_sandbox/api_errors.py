"""Errors in Together's words: the table of them and their two bodies, JSON and the edge's HTML page.

Texts follow recorded errors where there are any (401, 402, 404, 422, 429) and the documentation's
error-codes page elsewhere. Knows neither requests nor sockets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

from togetherchat_sandbox.encoding import Json, JsonObject, encode
from togetherchat_sandbox.reply import Reply, unary_reply

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"

_RATE_LIMITED = {"retry-after": "1", "x-ratelimit-reset": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiError:
    """One error. `retry_after_date_s`: how many seconds ahead a `retry-after` in date form points.

    `body`, if there is one, is sent in place of Together's form: an object or list, or a plain text.
    """

    status: int
    message: str
    type: str = INVALID_REQUEST
    code: str | None = None
    extra_fields: Mapping[str, Json] = field(default_factory=dict[str, Json])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    html: bool = False
    body: Json = None
    retry_after_date_s: int | None = None


class RequestRejectedError(Exception):
    """The request is rejected: the reply is `error`."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.status)
        self.error = error


def _edge_page(status: int, title: str) -> ApiError:
    return ApiError(status=status, message=title, html=True)


def _in_other_form(problems: Json, member: str) -> ApiError:
    return ApiError(status=400, message="", body={member: problems})


ERRORS: Mapping[str, ApiError] = {
    "400": ApiError(status=400, message="Input validation error: requested by the model id."),
    "400-detail": _in_other_form(
        [{"type": "missing", "loc": ["body", "messages", 0, "content"], "msg": "Field required"}], "detail"
    ),
    "400-errors": _in_other_form([{"code": 5006, "message": "The model has no tools."}], "errors"),
    "400-list": ApiError(
        status=400,
        message="",
        body=[{"error": {"code": 400, "message": "The schema is not valid.", "status": "INVALID_ARGUMENT"}}],
    ),
    "400-param": ApiError(
        status=400,
        message="",
        body={"error": {"message": "top_p must be below 1.", "type": INVALID_REQUEST, "param": "top_p"}},
    ),
    "400-stopped": ApiError(
        status=400,
        message="The dedicated endpoint of model {model} is not running. Please start it and try again.",
        code="dedicated_endpoint_not_running",
    ),
    "400-text": ApiError(status=400, message="", body="The model has no tools.\n"),
    "401": ApiError(
        status=401,
        message="Invalid API key provided. You can find your API key at"
        " https://api.together.ai/settings/api-keys.",
        code="invalid_api_key",
    ),
    "402": ApiError(
        status=402,
        message="Credit limit exceeded, please [add credits](https://api.together.ai/settings/billing).",
        type="credit_limit",
    ),
    "403": ApiError(status=403, message="Access to this resource is not allowed."),
    "403-html": _edge_page(403, "Access denied"),
    "404": ApiError(
        status=404,
        message="Unable to access model {model}. Please visit https://api.together.ai/models to view"
        " the list of supported models.",
        code="model_not_available",
    ),
    "408": ApiError(status=408, message="Request timeout.", type=SERVER_ERROR),
    "409": ApiError(status=409, message="Conflict."),
    "413": ApiError(status=413, message="Request entity too large."),
    "422": ApiError(
        status=422,
        message="Input validation error: grammar is not valid: failed to compile grammar",
    ),
    "429": ApiError(
        status=429,
        message="You have reached the rate limit specific to this model {model}. Please slow down.",
        type="dynamic_request_limited",
        extra_fields={"error_type": "dynamic_request_limited"},
        headers=_RATE_LIMITED,
    ),
    "429-tokens": ApiError(
        status=429,
        message="You have reached the token limit specific to this model {model}. Please slow down.",
        type="dynamic_token_limited",
        extra_fields={"error_type": "dynamic_token_limited"},
        headers=_RATE_LIMITED,
    ),
    "429-2024": ApiError(
        status=429,
        message="Request was rejected due to request rate limiting. Your rate limits are 600 RPM (10 QPS)"
        " and 180000 TPM (3000 TPS). See details: https://docs.together.ai/docs/rate-limits",
        type="credit_limit",
        headers={"x-ratelimit-reset": "1"},
    ),
    "429-quota": ApiError(
        status=429,
        message="You exceeded your current quota, please check your plan and billing details.",
        type="insufficient_quota",
        code="insufficient_quota",
    ),
    "500": ApiError(status=500, message="Internal server error", type=SERVER_ERROR),
    "501": ApiError(status=501, message="Not implemented.", type=SERVER_ERROR),
    "502": _edge_page(502, "Bad gateway"),
    "503": ApiError(
        status=503,
        message="The server is overloaded or not ready yet. Please try again later.",
        type="service_unavailable",
    ),
    "504": ApiError(status=504, message="Request timed out.", type=SERVER_ERROR),
    "520": _edge_page(520, "Web server is returning an unknown error"),
    "521": _edge_page(521, "Web server is down"),
    "522": _edge_page(522, "Connection timed out"),
    "523": _edge_page(523, "Origin is unreachable"),
    "524": _edge_page(524, "A timeout occurred"),
    "525": _edge_page(525, "SSL handshake failed"),
    "526": _edge_page(526, "Invalid SSL certificate"),
    "529": ApiError(status=529, message="The service is overloaded.", type="overloaded_error"),
    "530": _edge_page(530, "Origin DNS error"),
}

CONTEXT_LENGTH = ApiError(
    status=400,
    message="The input (170071 tokens) is longer than the model's context length (131072 tokens).",
)
CONTEXT_LENGTH_403 = ApiError(
    status=403,
    message="The input and max_tokens together exceed the model's maximum context length of 131072 tokens.",
)
CONTEXT_LENGTH_422 = ApiError(
    status=422,
    message="Input validation error: `inputs` tokens + `max_new_tokens` must be <= 131073. Given: 170071"
    " `inputs` tokens and 512 `max_new_tokens`",
)
RETRY_AFTER_DATE = ApiError(
    status=429,
    message="You have reached the rate limit specific to this model {model}. Please slow down.",
    type="dynamic_request_limited",
    retry_after_date_s=2,
)
NOT_FOUND = ApiError(status=404, message="Not found.", code="not_found")


def of_status(status: int) -> ApiError:
    """Return the error of a status, invented where Together has none."""
    known = ERRORS.get(str(status))
    error_type = SERVER_ERROR if status >= 500 else INVALID_REQUEST
    return known or ApiError(status=status, message=f"Simulated status {status}.", type=error_type)


def error_body(error: ApiError, *, response_id: str, model: str = "") -> JsonObject:
    """Return the 2026 form: the id of the response beside the error."""
    fields: JsonObject = {
        "message": error.message.replace("{model}", model),
        "type": error.type,
        "param": None,
        "code": error.code,
        **error.extra_fields,
    }
    return {"id": response_id, "error": fields}


def error_reply(error: ApiError, *, response_id: str, now_s: float, model: str = "") -> Reply:
    """Return the reply for `error`. `now_s` is the wall clock."""
    if isinstance(error.body, str):
        reply = unary_reply(error.body.encode(), "text/plain; charset=utf-8", status=error.status)
    elif error.body is not None:
        reply = unary_reply(encode(error.body), "application/json", status=error.status)
    elif error.html:
        reply = unary_reply(_page(error), "text/html; charset=UTF-8", status=error.status)
    else:
        body = encode(error_body(error, response_id=response_id, model=model))
        reply = unary_reply(body, "application/json", status=error.status)
    return Reply(
        status=reply.status,
        headers={**reply.headers, **error.headers, **_retry_after_date(error, now_s)},
        parts=reply.parts,
        length=reply.length,
    )


def _page(error: ApiError) -> bytes:
    title = f"{error.status}: {error.message}"
    return (
        f"<!DOCTYPE html>\n<html><head><title>together.ai | {title}</title></head>\n"
        f"<body><h1>Error {title}</h1><p>The sandbox simulates this page of the edge.</p></body></html>\n"
    ).encode()


def _retry_after_date(error: ApiError, now_s: float) -> dict[str, str]:
    if error.retry_after_date_s is None:
        return {}
    return {"retry-after": formatdate(now_s + error.retry_after_date_s, usegmt=True)}
