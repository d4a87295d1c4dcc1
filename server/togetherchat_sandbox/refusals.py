"""Errors in Together's words. Owns the table of them, their two bodies (JSON, and the page of the
edge in front of the API) and `Refused`, with which the checks of a request end it.

Texts follow recorded errors where there are any (401, 402, 404, 422, 429) and the documentation's
error-codes page elsewhere. Knows neither requests nor sockets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

from togetherchat_sandbox.reply import Reply, whole
from togetherchat_sandbox.wire import Json, JsonObject, encode

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"

_RATE_LIMITED = {"retry-after": "1", "x-ratelimit-reset": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One error. `retry_after_date_s`: how far ahead a `retry-after` in date form points."""

    status: int
    message: str
    type: str = INVALID_REQUEST
    code: str | None = None
    more: Mapping[str, Json] = field(default_factory=dict[str, Json])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    html: bool = False
    retry_after_date_s: int | None = None


class Refused(Exception):  # noqa: N818  it ends a request the way a provider does; nothing is in error
    """The request is answered with `refusal`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal


def _edge(status: int, title: str) -> Refusal:
    return Refusal(status=status, message=title, html=True)


REFUSALS: Mapping[str, Refusal] = {
    "400": Refusal(status=400, message="Input validation error: the sandbox was asked to refuse this."),
    "401": Refusal(
        status=401,
        message="Invalid API key provided. You can find your API key at"
        " https://api.together.ai/settings/api-keys.",
        code="invalid_api_key",
    ),
    "402": Refusal(
        status=402,
        message="Credit limit exceeded, please [add credits](https://api.together.ai/settings/billing).",
        type="credit_limit",
    ),
    "403": Refusal(status=403, message="Access to this resource is not allowed."),
    "403-html": _edge(403, "Access denied"),
    "404": Refusal(
        status=404,
        message="Unable to access model {model}. Please visit https://api.together.ai/models to view"
        " the list of supported models.",
        code="model_not_available",
    ),
    "408": Refusal(status=408, message="Request timeout.", type=SERVER_ERROR),
    "409": Refusal(status=409, message="Conflict."),
    "413": Refusal(status=413, message="Request entity too large."),
    "422": Refusal(
        status=422,
        message="Input validation error: grammar is not valid: failed to compile grammar",
    ),
    "429": Refusal(
        status=429,
        message="You have reached the rate limit specific to this model {model}. Please slow down.",
        type="dynamic_request_limited",
        more={"error_type": "dynamic_request_limited"},
        headers=_RATE_LIMITED,
    ),
    "429-tokens": Refusal(
        status=429,
        message="You have reached the token limit specific to this model {model}. Please slow down.",
        type="dynamic_token_limited",
        more={"error_type": "dynamic_token_limited"},
        headers=_RATE_LIMITED,
    ),
    "429-2024": Refusal(
        status=429,
        message="Request was rejected due to request rate limiting. Your rate limits are 600 RPM (10 QPS)"
        " and 180000 TPM (3000 TPS). See details: https://docs.together.ai/docs/rate-limits",
        type="credit_limit",
        headers={"x-ratelimit-reset": "1"},
    ),
    "429-quota": Refusal(
        status=429,
        message="You exceeded your current quota, please check your plan and billing details.",
        type="insufficient_quota",
        code="insufficient_quota",
    ),
    "500": Refusal(status=500, message="Internal server error", type=SERVER_ERROR),
    "501": Refusal(status=501, message="Not implemented.", type=SERVER_ERROR),
    "502": _edge(502, "Bad gateway"),
    "503": Refusal(
        status=503,
        message="The server is overloaded or not ready yet. Please try again later.",
        type="service_unavailable",
    ),
    "504": Refusal(status=504, message="Request timed out.", type=SERVER_ERROR),
    "520": _edge(520, "Web server is returning an unknown error"),
    "521": _edge(521, "Web server is down"),
    "522": _edge(522, "Connection timed out"),
    "523": _edge(523, "Origin is unreachable"),
    "524": _edge(524, "A timeout occurred"),
    "525": _edge(525, "SSL handshake failed"),
    "526": _edge(526, "Invalid SSL certificate"),
    "529": Refusal(status=529, message="The service is overloaded.", type="overloaded_error"),
    "530": _edge(530, "Origin DNS error"),
}

CONTEXT_LENGTH = Refusal(
    status=400,
    message="The input (170071 tokens) is longer than the model's context length (131072 tokens).",
)
CONTEXT_LENGTH_403 = Refusal(
    status=403,
    message="The input and max_tokens together exceed the model's maximum context length of 131072 tokens.",
)
CONTEXT_LENGTH_422 = Refusal(
    status=422,
    message="Input validation error: `inputs` tokens + `max_new_tokens` must be <= 131073. Given: 170071"
    " `inputs` tokens and 512 `max_new_tokens`",
)
RETRY_AFTER_DATE = Refusal(
    status=429,
    message="You have reached the rate limit specific to this model {model}. Please slow down.",
    type="dynamic_request_limited",
    retry_after_date_s=2,
)
NOT_FOUND = Refusal(status=404, message="There is nothing at this address.", code="not_found")


def of_status(status: int) -> Refusal:
    """The error of a status, made up where Together has none."""
    known = REFUSALS.get(str(status))
    kind = SERVER_ERROR if status >= 500 else INVALID_REQUEST
    return known or Refusal(status=status, message=f"Simulated status {status}.", type=kind)


def error_body(refusal: Refusal, *, answer_id: str, model: str = "") -> JsonObject:
    """The 2026 form: the identifier of the request beside the error."""
    error: JsonObject = {
        "message": refusal.message.replace("{model}", model),
        "type": refusal.type,
        "param": None,
        "code": refusal.code,
        **refusal.more,
    }
    return {"id": answer_id, "error": error}


def refused(refusal: Refusal, *, answer_id: str, now_s: float, model: str = "") -> Reply:
    """The reply that says no. `now_s` is the wall clock."""
    if refusal.html:
        reply = whole(_page(refusal), "text/html; charset=UTF-8", status=refusal.status)
    else:
        body = encode(error_body(refusal, answer_id=answer_id, model=model))
        reply = whole(body, "application/json", status=refusal.status)
    return Reply(
        status=reply.status,
        headers={**reply.headers, **refusal.headers, **_retry_after_date(refusal, now_s)},
        pieces=reply.pieces,
        length=reply.length,
    )


def _page(refusal: Refusal) -> bytes:
    title = f"{refusal.status}: {refusal.message}"
    return (
        f"<!DOCTYPE html>\n<html><head><title>together.ai | {title}</title></head>\n"
        f"<body><h1>Error {title}</h1><p>A page of the edge, simulated by the sandbox.</p></body></html>\n"
    ).encode()


def _retry_after_date(refusal: Refusal, now_s: float) -> dict[str, str]:
    if refusal.retry_after_date_s is None:
        return {}
    return {"retry-after": formatdate(now_s + refusal.retry_after_date_s, usegmt=True)}
