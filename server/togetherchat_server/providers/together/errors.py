"""What a failure of Together's means: the table.

Owns the way from an answer (or an error inside a stream) to a `ServiceError`. Knows no gRPC,
no retry and no wording of a front's.

Three traps decide the order of the questions. An overflow of the context is documented as
403 and seen as 400, 413 and 422, so the message comes before the status. `type: credit_limit`
is an empty balance with 402 and was a plain rate limit with 429, so the status comes before
the type. A rejected key carries `type: invalid_request_error`, so the type alone says nothing.
Sources: the error-codes and rate-limits pages of docs.together.ai, and recorded errors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from togetherchat_server.domain.reasons import ProviderErrorInfo, Reason, ServiceError, sanitise
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import schema
from togetherchat_server.upstream.retry_after import retry_after_s

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
    526: Reason.UPSTREAM_EDGE_CERTIFICATE,
    529: Reason.UPSTREAM_OVERLOADED,
    530: Reason.UPSTREAM_EDGE_UNREACHABLE,
}

WORDS: Final[Mapping[str, int]] = {
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
"""The status that a code or type inside a stream stands for, where no number says it."""

SENTENCES: Final[Mapping[Reason, str]] = {
    Reason.CONTEXT_LENGTH_EXCEEDED: "the request does not fit the model's context",
    Reason.MODEL_NOT_FOUND: "the provider has no such model that can be called",
    Reason.UPSTREAM_INVALID_REQUEST: "the provider does not accept the request",
    Reason.REQUEST_TOO_LARGE: "the request is too large for the provider",
    Reason.CALLER_KEY_REJECTED: "the provider rejected the key that came with the call",
    Reason.SERVICE_KEY_REJECTED: "the provider rejected this service's key",
    Reason.SPEND_LIMIT_REACHED: "the account's spending limit at the provider is reached",
    Reason.QUOTA_EXHAUSTED: "the account's quota at the provider is used up",
    Reason.RATE_LIMITED: "the provider's rate limit is reached",
    Reason.RATE_LIMITED_REQUESTS: "the provider's limit of requests is reached",
    Reason.RATE_LIMITED_TOKENS: "the provider's limit of tokens is reached",
    Reason.UPSTREAM_PERMISSION_DENIED: "the provider does not permit the request",
    Reason.UPSTREAM_EDGE_BLOCKED: "the provider's edge blocked the request",
    Reason.UPSTREAM_EDGE_ERROR: "the provider's edge had an error",
    Reason.UPSTREAM_EDGE_UNREACHABLE: "the provider's edge could not reach the provider",
    Reason.UPSTREAM_EDGE_CERTIFICATE: "the provider's edge does not trust the provider's certificate",
    Reason.UPSTREAM_BAD_GATEWAY: "the provider's gateway had no valid answer",
    Reason.UPSTREAM_ENDPOINT_NOT_FOUND: "the provider does not know the address that it was asked at",
    Reason.UPSTREAM_CONFLICT: "the request conflicts with another one at the provider",
    Reason.UPSTREAM_CLOSED: "the provider closed the request before it was answered",
    Reason.UPSTREAM_INTERNAL: "the provider had an internal error",
    Reason.UPSTREAM_UNIMPLEMENTED: "the provider does not support the request",
    Reason.UPSTREAM_OVERLOADED: "the provider is overloaded",
    Reason.UPSTREAM_UNEXPECTED_STATUS: "the provider answered with a status that is not expected",
    Reason.UPSTREAM_UNEXPECTED_SERVER_STATUS: "the provider failed with a status that is not expected",
    Reason.UPSTREAM_STREAM_ERROR: "the provider reported an error inside the stream",
    Reason.UPSTREAM_REQUEST_TIMEOUT: "the provider did not get the whole request in time",
    Reason.UPSTREAM_GATEWAY_TIMEOUT: "the provider did not answer its gateway in time",
}

ABOUT_THE_REQUEST: Final = frozenset(
    {
        Reason.CONTEXT_LENGTH_EXCEEDED,
        Reason.MODEL_NOT_FOUND,
        Reason.UPSTREAM_INVALID_REQUEST,
        Reason.REQUEST_TOO_LARGE,
    }
)
"""Here the provider's own words help the caller, and are quoted."""

WORD_CHARACTERS_MAX: Final = 64
_READ_CHARACTERS_MAX: Final = 4096
_SHORTEST_MODEL: Final = 3

_OVERFLOW = re.compile(
    r"maximum context (?:length|window|size)|\bcontext_length_exceeded\b"
    r"|(?:longer|larger|greater|more) than .{0,60}context (?:length|window|size|limit)"
    r"|exceed.{0,80}context (?:length|window|size|limit)"
    r"|context (?:length|window|size|limit).{0,80}exceed"
    r"|`?inputs`? tokens \+ `?max_new_tokens`? must be <=",
    re.IGNORECASE | re.DOTALL,
)
_NO_MODEL = re.compile(
    r"unable to access (?:non-serverless )?model"
    r"|\bunknown model\b|\binvalid model (?:id|name)\b"
    r"|\bmodel(?:\s+\S{1,256})?\s+(?:does not exist|(?:is |was |could )?not (?:be )?(?:found|available))",
    re.IGNORECASE,
)
_NO_MODEL_CODES = frozenset({"model_not_available", "model_not_found"})
_URL = re.compile(r"https?://\S*")
_MONEY_CODE = re.compile(r"insufficient|quota|billing|balance")
_MONEY = re.compile(
    r"quota|billing|balance|insufficient|payment|\bcredits?\b|\bfunds?\b|spend(?:ing)? limit", re.IGNORECASE
)
_PACE = re.compile(
    r"rate.?limit|too many requests|\b(?:rp|tp|qp)[sm]\b|per[ -](?:second|minute)", re.IGNORECASE
)
_REQUESTS = re.compile(r"\b[rq]p[sm]\b|\b(?:requests|queries) per\b", re.IGNORECASE)
_TOKENS = re.compile(r"\btp[sm]\b|\btokens per\b", re.IGNORECASE)

_KEY = re.compile(
    r"\bbearer\s+[^\s\"'<>]+|\b(?:tgp_v1_|tok_|sk-)[^\s\"'`<>,;]+|\b[0-9a-f]{64}\b",
    re.IGNORECASE,
)
MASK: Final = "[key]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A failure as it came. `error` is what a JSON body said; `text` what can be read of it."""

    status: int
    error: schema.ErrorBody | None
    text: str
    caller_brought_key: bool
    model: str


def from_answer(  # noqa: PLR0913  the facts of one answer, all by keyword
    *,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    caller_brought_key: bool,
    now_wall_s: float,
    model: str,
    secrets: tuple[Secret, ...] = (),
) -> ServiceError:
    """The failure that an HTTP answer other than 200 means. Keys of `headers` are lower case."""
    error = schema.parse_error(body)
    text = body[:_READ_CHARACTERS_MAX].decode("utf-8", "replace") if error is None else error.message
    case = _Case(
        status=status,
        error=error,
        text=text[:_READ_CHARACTERS_MAX],
        caller_brought_key=caller_brought_key,
        model=model,
    )
    wait_s = retry_after_s(headers, now_wall_s=now_wall_s) if _may_pass(status) else None
    return _failure(_kind(case), error, http_status=status, retry_after_s=wait_s, secrets=secrets)


def from_stream_error(
    error: schema.ErrorBody,
    *,
    caller_brought_key: bool = False,
    model: str = "",
    secrets: tuple[Secret, ...] = (),
) -> ServiceError:
    """The failure that an error inside an answer of status 200 means: its number, else its words."""
    status = _claimed_status(error)
    case = _Case(
        status=status or 400,
        error=error,
        text=error.message[:_READ_CHARACTERS_MAX],
        caller_brought_key=caller_brought_key,
        model=model,
    )
    reason = _by_message(case) if status is None else _kind(case)
    return _failure(reason or Reason.UPSTREAM_STREAM_ERROR, error, http_status=status, secrets=secrets)


def _kind(case: _Case) -> Reason:
    by_message = _by_message(case)
    if by_message is not None:
        return by_message
    match case.status:
        case 401 if case.caller_brought_key:
            return Reason.CALLER_KEY_REJECTED
        case 403 if case.error is None:
            return Reason.UPSTREAM_EDGE_BLOCKED
        case 429:
            return _limit(case)
        case _:
            return STATUS.get(case.status) or _unexpected(case.status)


def _by_message(case: _Case) -> Reason | None:
    """What outranks the status, because it comes with several."""
    code = "" if case.error is None else case.error.code
    if 400 <= case.status < 500 and (code == "context_length_exceeded" or _OVERFLOW.search(case.text)):
        return Reason.CONTEXT_LENGTH_EXCEEDED
    if case.status in (400, 404) and case.error is not None:
        if code in _NO_MODEL_CODES or _NO_MODEL.search(case.text):
            return Reason.MODEL_NOT_FOUND
        if case.status == 404 and len(case.model) >= _SHORTEST_MODEL and case.model in case.text:
            return Reason.MODEL_NOT_FOUND
    return None


def _limit(case: _Case) -> Reason:
    """A 429 is about pace or about money; only the first passes by itself.

    `credit_limit` is no word for money here: Together sent it with plain rate limits.
    """
    error = case.error or schema.ErrorBody()
    codes = {word.lower() for word in (error.type, error.error_type, error.code)}
    if "dynamic_request_limited" in codes:
        return Reason.RATE_LIMITED_REQUESTS
    if "dynamic_token_limited" in codes:
        return Reason.RATE_LIMITED_TOKENS
    if any(_MONEY_CODE.search(code) for code in codes):
        return Reason.QUOTA_EXHAUSTED
    text = _URL.sub("", case.text)  # a link to a billing page is no empty balance
    if _PACE.search(text):
        return _pace(text)
    return Reason.QUOTA_EXHAUSTED if _MONEY.search(text) else Reason.RATE_LIMITED


def _pace(text: str) -> Reason:
    """Together's older texts name both limits without saying which was reached."""
    match bool(_REQUESTS.search(text)), bool(_TOKENS.search(text)):
        case True, False:
            return Reason.RATE_LIMITED_REQUESTS
        case False, True:
            return Reason.RATE_LIMITED_TOKENS
        case _:
            return Reason.RATE_LIMITED


def _unexpected(status: int) -> Reason:
    return Reason.UPSTREAM_UNEXPECTED_STATUS if status < 500 else Reason.UPSTREAM_UNEXPECTED_SERVER_STATUS


def _may_pass(status: int) -> bool:
    """Whether waiting can help at all; elsewhere a header that asks to wait means nothing."""
    return status in (408, 409, 429, 499) or status >= 500


def _claimed_status(error: schema.ErrorBody) -> int | None:
    """The HTTP status that an error claims for itself. Codes such as 40303 are none."""
    words = (error.code, error.error_type, error.type)
    numbers = [error.status, *(int(word) for word in words if re.fullmatch("[0-9]{3}", word))]
    claimed = next((number for number in numbers if number is not None and 400 <= number < 600), None)
    if claimed is not None:
        return claimed
    return next((WORDS[word.lower()] for word in words if word.lower() in WORDS), None)


def _failure(
    reason: Reason,
    error: schema.ErrorBody | None,
    *,
    http_status: int | None,
    secrets: tuple[Secret, ...],
    retry_after_s: float | None = None,
) -> ServiceError:
    said = error or schema.ErrorBody()
    message = SENTENCES[reason]
    if reason in ABOUT_THE_REQUEST and said.message:
        message = f"{message}: {sanitise(_masked(said.message, secrets))}"
    return ServiceError(
        reason,
        message,
        retry_after_s=retry_after_s,
        upstream=ProviderErrorInfo(
            http_status=http_status,
            error_type=_masked_word(said.type or said.error_type, secrets),
            error_code=_masked_word(said.code, secrets),
        ),
    )


def _masked_word(word: str, secrets: tuple[Secret, ...]) -> str:
    return sanitise(_masked(word, secrets), characters_max=WORD_CHARACTERS_MAX)


def _masked(text: str, secrets: tuple[Secret, ...]) -> str:
    """Without the keys we know and whatever looks like one. Before any cut, which could halve a key."""
    for secret in secrets:
        text = text.replace(secret.reveal(), MASK)
    return _KEY.sub(MASK, text)
