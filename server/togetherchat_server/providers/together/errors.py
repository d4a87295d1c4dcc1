"""Maps failures that Together reports to a `ServiceError`.

Covers HTTP responses with an error status and errors inside a stream. Knows no gRPC and no retries.

Three traps decide the order of the checks. A context overflow is documented as 403 and observed as
400, 413 and 422, so the message comes before the status. `type: credit_limit` is an empty balance
with 402 and was a plain rate limit with 429, so the status comes before the type. A rejected key
carries `type: invalid_request_error`, so the type alone proves nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from togetherchat_server.domain.reasons import (
    FieldViolation,
    ProviderErrorInfo,
    Reason,
    ServiceError,
    sanitise,
)
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import schema
from togetherchat_server.providers.together.error_body import ErrorBody
from togetherchat_server.providers.together.error_tables import (
    CODES,
    MESSAGES,
    QUOTED,
    STATUS,
    UNTRUSTED_MESSAGE,
    UNTRUSTED_STATUS,
)
from togetherchat_server.upstream.retry_after import retry_after_s

CODE_CHARACTERS_MAX: Final = 64
PARAM_CHARACTERS_MAX: Final = 128
TEXT_TYPE: Final = "text/plain"
"""The content type of an error that is a plain text. A page, and a text without a type, come from an edge."""
_READ_CHARACTERS_MAX: Final = 4096
_MODEL_CHARACTERS_MIN: Final = 3

_OVERFLOW = re.compile(
    r"maximum context (?:length|window|size)|\bcontext_length_exceeded\b"
    r"|(?:longer|larger|greater|more) than .{0,60}context (?:length|window|size|limit)"
    r"|exceed.{0,80}context (?:length|window|size|limit)"
    r"|context (?:length|window|size|limit).{0,80}exceed"
    r"|`?inputs`? tokens \+ `?max_new_tokens`? must be <=",
    re.IGNORECASE | re.DOTALL,
)
_MODEL_NOT_FOUND = re.compile(
    r"unable to access (?:non-serverless )?model"
    r"|\bunknown model\b|\binvalid model (?:id|name)\b"
    r"|\bmodel(?:\s+\S{1,256})?\s+(?:does not exist|(?:is |was |could )?not (?:be )?(?:found|available))",
    re.IGNORECASE,
)
_MODEL_NOT_FOUND_CODES = frozenset({"model_not_available", "model_not_found"})
# Together stops a dedicated endpoint after an idle hour and reports that as a 400.
_NOT_RUNNING_CODE = "dedicated_endpoint_not_running"
_URL = re.compile(r"https?://\S*")
_MONEY_CODE = re.compile(r"insufficient|quota|billing|balance")
_MONEY = re.compile(
    r"quota|billing|balance|insufficient|payment|\bcredits?\b|\bfunds?\b|spend(?:ing)? limit", re.IGNORECASE
)
_RATE = re.compile(
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
class _Failure:
    """A failure as received. `error` is parsed from a JSON body; `text` is its message or the raw body."""

    status: int
    error: ErrorBody | None
    text: str
    caller_brought_key: bool
    model: str


def from_response(  # noqa: PLR0913  the parts of one response, all by keyword
    *,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    caller_brought_key: bool,
    now_wall_s: float,
    model: str,
    secrets: tuple[Secret, ...] = (),
) -> ServiceError:
    """Return the error for an HTTP status other than 200. Keys of `headers` are lower case."""
    error = schema.parse_error(body)
    text = body[:_READ_CHARACTERS_MAX].decode("utf-8", "replace") if error is None else error.message
    failure = _Failure(
        status=status,
        error=error,
        text=text[:_READ_CHARACTERS_MAX],
        caller_brought_key=caller_brought_key,
        model=model,
    )
    if error is None and headers.get("content-type", "").lower().startswith(TEXT_TYPE):
        error = ErrorBody(message=_plain_text(text))
    delay_s = retry_after_s(headers, now_wall_s=now_wall_s) if _is_transient(status) else None
    return _service_error(_reason(failure), error, http_status=status, retry_after_s=delay_s, secrets=secrets)


def from_stream_error(
    error: ErrorBody,
    *,
    caller_brought_key: bool = False,
    model: str = "",
    secrets: tuple[Secret, ...] = (),
) -> ServiceError:
    """Return the error inside a response with status 200, by its number, else by its code or type."""
    status = _claimed_status(error)
    failure = _Failure(
        status=status or 400,
        error=error,
        text=error.message[:_READ_CHARACTERS_MAX],
        caller_brought_key=caller_brought_key,
        model=model,
    )
    reason = _by_message(failure) if status is None else _reason(failure)
    return _service_error(reason or Reason.UPSTREAM_STREAM_ERROR, error, http_status=status, secrets=secrets)


def _reason(failure: _Failure) -> Reason:
    by_message = _by_message(failure)
    if by_message is not None:
        return by_message
    match failure.status:
        case 401 if failure.caller_brought_key:
            return Reason.CALLER_KEY_REJECTED
        case 403 if failure.error is None:
            return Reason.UPSTREAM_EDGE_BLOCKED
        case 429:
            return _too_many_requests(failure)
        case _:
            return STATUS.get(failure.status, Reason.UPSTREAM_UNEXPECTED_STATUS)


def _by_message(failure: _Failure) -> Reason | None:
    """Return the reasons that outrank the status, because they come with several statuses."""
    code = "" if failure.error is None else failure.error.code
    if 400 <= failure.status < 500 and (code == "context_length_exceeded" or _OVERFLOW.search(failure.text)):
        return Reason.CONTEXT_LENGTH_EXCEEDED
    if failure.status < 500 and code == _NOT_RUNNING_CODE:
        return Reason.UPSTREAM_ENDPOINT_NOT_RUNNING
    if failure.status in (400, 404) and failure.error is not None:
        if code in _MODEL_NOT_FOUND_CODES or _MODEL_NOT_FOUND.search(failure.text):
            return Reason.MODEL_NOT_FOUND
        if (
            failure.status == 404
            and len(failure.model) >= _MODEL_CHARACTERS_MIN
            and failure.model in failure.text
        ):
            return Reason.MODEL_NOT_FOUND
    return None


def _too_many_requests(failure: _Failure) -> Reason:
    """Return the reason for a 429: a rate limit, which passes by itself, or a used-up quota, which does not.

    `credit_limit` does not mean a quota here: Together sent it with plain rate limits.
    """
    error = failure.error or ErrorBody()
    codes = {code.lower() for code in (error.type, error.error_type, error.code)}
    if "dynamic_request_limited" in codes:
        return Reason.RATE_LIMITED_REQUESTS
    if "dynamic_token_limited" in codes:
        return Reason.RATE_LIMITED_TOKENS
    if any(_MONEY_CODE.search(code) for code in codes):
        return Reason.QUOTA_EXHAUSTED
    text = _URL.sub("", failure.text)  # a link to a billing page does not mean an empty balance
    if _RATE.search(text):
        return _rate_limit(text)
    return Reason.QUOTA_EXHAUSTED if _MONEY.search(text) else Reason.RATE_LIMITED


def _rate_limit(text: str) -> Reason:
    """Together's older texts name both limits without naming the one that was reached."""
    match bool(_REQUESTS.search(text)), bool(_TOKENS.search(text)):
        case True, False:
            return Reason.RATE_LIMITED_REQUESTS
        case False, True:
            return Reason.RATE_LIMITED_TOKENS
        case _:
            return Reason.RATE_LIMITED


def _retryable(reason: Reason, status: int | None) -> bool | None:
    """Return whether a retry may succeed if the status decides that; None if the reason does."""
    if status == UNTRUSTED_STATUS:
        return False
    if reason is Reason.UPSTREAM_UNEXPECTED_STATUS:
        return status is not None and status >= 500
    return None


def _is_transient(status: int) -> bool:
    """Return whether waiting can help; with another status, a header that asks to wait is ignored."""
    return status in (408, 409, 429, 499) or status >= 500


def _claimed_status(error: ErrorBody) -> int | None:
    """Return the HTTP status that an error contains. Codes such as 40303 are not statuses."""
    codes = (error.code, error.error_type, error.type)
    numbers = [error.status, *(int(code) for code in codes if re.fullmatch("[0-9]{3}", code))]
    claimed = next((number for number in numbers if number is not None and 400 <= number < 600), None)
    if claimed is not None:
        return claimed
    return next((CODES[code.lower()] for code in codes if code.lower() in CODES), None)


def _service_error(
    reason: Reason,
    error: ErrorBody | None,
    *,
    http_status: int | None,
    secrets: tuple[Secret, ...],
    retry_after_s: float | None = None,
) -> ServiceError:
    body = error or ErrorBody()
    message = UNTRUSTED_MESSAGE if http_status == UNTRUSTED_STATUS else MESSAGES[reason]
    violations: tuple[FieldViolation, ...] = ()
    if reason in QUOTED:
        text = sanitise(_masked(body.message, secrets))
        param = sanitise(_masked(body.param, secrets), characters_max=PARAM_CHARACTERS_MAX)
        violations = (FieldViolation(field=param, description=text or message),) if param else ()
        message = f"{message}: {text}" if text else message
    return ServiceError(
        reason,
        message,
        retryable=_retryable(reason, http_status),
        retry_after_s=retry_after_s,
        violations=violations,
        upstream=ProviderErrorInfo(
            http_status=http_status,
            error_type=_masked_code(body.type or body.error_type, secrets),
            error_code=_masked_code(body.code, secrets),
        ),
    )


def _plain_text(text: str) -> str:
    """Return a text; empty if it is a page, whatever its content type says."""
    return "" if text.lstrip().startswith("<") else text


def _masked_code(code: str, secrets: tuple[Secret, ...]) -> str:
    return sanitise(_masked(code, secrets), characters_max=CODE_CHARACTERS_MAX)


def _masked(text: str, secrets: tuple[Secret, ...]) -> str:
    """Mask the known keys and whatever looks like a key. Call before cutting, which could halve a key."""
    for secret in secrets:
        for form in secret.forms():
            text = text.replace(form, MASK)
    return _KEY.sub(MASK, text)
