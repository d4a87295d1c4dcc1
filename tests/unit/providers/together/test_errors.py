"""The table from Together's answers to reasons, one row a row."""

import json

import pytest

from support import golden
from togetherchat_server.domain.reasons import TEXT_CHARACTERS_MAX, Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import error_tables, errors, schema

OVERFLOW = "The input (170071 tokens) is longer than the model's context length (131072 tokens)."
NO_MODEL = "Unable to access model some/model. Please visit the list."
PAGE = "<!DOCTYPE html><html><body>canary</body></html>"


def said(
    message: str = "canary", error_type: str | None = "invalid_request_error", code: object = None
) -> str:
    return json.dumps(
        {"id": "r", "error": {"message": message, "type": error_type, "param": None, "code": code}}
    )


def failure(status: int, body: str | bytes = said(), **changes: object) -> ServiceError:
    facts: dict[str, object] = {
        "headers": {},
        "caller_brought_key": False,
        "now_wall_s": 0.0,
        "model": "some/model",
    }
    data = body if isinstance(body, bytes) else body.encode()
    return errors.from_response(status=status, body=data, **(facts | changes))


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        # The message before the status: context overflow comes with any 4xx.
        *[
            (status, said(OVERFLOW), Reason.CONTEXT_LENGTH_EXCEEDED)
            for status in (400, 401, 403, 413, 422, 429)
        ],
        (400, said(code="context_length_exceeded"), Reason.CONTEXT_LENGTH_EXCEEDED),
        (
            400,
            said("Requested token count exceeds the model's maximum context length of 8 tokens"),
            Reason.CONTEXT_LENGTH_EXCEEDED,
        ),
        (
            422,
            said("`inputs` tokens + `max_new_tokens` must be <= 8. Given: 9"),
            Reason.CONTEXT_LENGTH_EXCEEDED,
        ),
        (403, said("input plus max_tokens exceed the context length"), Reason.CONTEXT_LENGTH_EXCEEDED),
        (413, OVERFLOW, Reason.CONTEXT_LENGTH_EXCEEDED),
        (500, said(OVERFLOW), Reason.UPSTREAM_INTERNAL),
        (
            400,
            said("context_length_exceeded_behavior must be one of error, truncate"),
            Reason.UPSTREAM_INVALID_REQUEST,
        ),
        # The model: 400 and 404, by code or by text.
        *[(status, said(code="model_not_available"), Reason.MODEL_NOT_FOUND) for status in (400, 404)],
        *[(status, said(NO_MODEL), Reason.MODEL_NOT_FOUND) for status in (400, 404)],
        (404, said("The model `x` does not exist.", code="model_not_found"), Reason.MODEL_NOT_FOUND),
        (404, said("Model x/y not found"), Reason.MODEL_NOT_FOUND),
        (404, said("nothing known of some/model"), Reason.MODEL_NOT_FOUND),
        (422, said(code="model_not_available"), Reason.UPSTREAM_INVALID_REQUEST),
        (404, NO_MODEL, Reason.UPSTREAM_ENDPOINT_NOT_FOUND),
        (400, said("tools are not available with model some/model"), Reason.UPSTREAM_INVALID_REQUEST),
        # The status.
        (400, said("Input required"), Reason.UPSTREAM_INVALID_REQUEST),
        (400, PAGE, Reason.UPSTREAM_INVALID_REQUEST),
        (422, said("grammar is not valid"), Reason.UPSTREAM_INVALID_REQUEST),
        (413, "", Reason.REQUEST_TOO_LARGE),
        (401, said(code="invalid_api_key"), Reason.SERVICE_KEY_REJECTED),
        (401, "", Reason.SERVICE_KEY_REJECTED),
        (402, said("Credit limit exceeded", "credit_limit"), Reason.SPEND_LIMIT_REACHED),
        (403, said(), Reason.UPSTREAM_PERMISSION_DENIED),
        (403, PAGE, Reason.UPSTREAM_EDGE_BLOCKED),
        (403, "", Reason.UPSTREAM_EDGE_BLOCKED),
        (404, said(), Reason.UPSTREAM_ENDPOINT_NOT_FOUND),
        (404, "404 page not found", Reason.UPSTREAM_ENDPOINT_NOT_FOUND),
        (408, "", Reason.UPSTREAM_REQUEST_TIMEOUT),
        (409, said(), Reason.UPSTREAM_CONFLICT),
        (499, "", Reason.UPSTREAM_CLOSED),
        (500, said(error_type="server_error"), Reason.UPSTREAM_INTERNAL),
        (501, "", Reason.UPSTREAM_UNIMPLEMENTED),
        (502, PAGE, Reason.UPSTREAM_BAD_GATEWAY),
        (503, said(), Reason.UPSTREAM_OVERLOADED),
        (504, PAGE, Reason.UPSTREAM_GATEWAY_TIMEOUT),
        (520, PAGE, Reason.UPSTREAM_EDGE_ERROR),
        *[(status, PAGE, Reason.UPSTREAM_EDGE_UNREACHABLE) for status in (521, 522, 523, 525, 530)],
        (524, PAGE, Reason.UPSTREAM_GATEWAY_TIMEOUT),
        (526, PAGE, Reason.UPSTREAM_EDGE_CERTIFICATE),
        (529, said(error_type="overloaded_error"), Reason.UPSTREAM_OVERLOADED),
        *[
            (status, "", Reason.UPSTREAM_UNEXPECTED_STATUS)
            for status in (100, 204, 301, 308, 405, 410, 418, 451)
        ],
        *[(status, "", Reason.UPSTREAM_UNEXPECTED_SERVER_STATUS) for status in (505, 507, 527, 599, 999)],
    ],
)
def test_kind(status: int, body: str, reason: Reason):
    """What an answer means."""
    assert reason == failure(status, body).reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (said(error_type="dynamic_request_limited"), Reason.RATE_LIMITED_REQUESTS),
        (said(code="dynamic_request_limited"), Reason.RATE_LIMITED_REQUESTS),
        ('{"error":{"error_type":"dynamic_token_limited"}}', Reason.RATE_LIMITED_TOKENS),
        ('{"error":"slow down","error_type":"dynamic_token_limited"}', Reason.RATE_LIMITED_TOKENS),
        (said("insufficient funds, 60 RPM", "dynamic_token_limited"), Reason.RATE_LIMITED_TOKENS),
        (said("Your rate limit is 60 queries per minute"), Reason.RATE_LIMITED_REQUESTS),
        (said("Rate limit reached: 60 RPM"), Reason.RATE_LIMITED_REQUESTS),
        (said("Rate limit reached: 180000 TPM"), Reason.RATE_LIMITED_TOKENS),
        (said("Limit of 5000 tokens per minute reached"), Reason.RATE_LIMITED_TOKENS),
        (
            said("rate limiting: 600 RPM (10 QPS) and 180000 TPM (3000 TPS)", "credit_limit"),
            Reason.RATE_LIMITED,
        ),
        (said("Quota exceeded: requests per minute"), Reason.RATE_LIMITED_REQUESTS),
        (said("Too many requests. Add a payment method to raise your limits."), Reason.RATE_LIMITED),
        (said("Slow down, see https://example.com/settings/billing"), Reason.RATE_LIMITED),
        (said("", "credit_limit"), Reason.RATE_LIMITED),
        ("", Reason.RATE_LIMITED),
        (PAGE, Reason.RATE_LIMITED),
        (said(code="insufficient_quota"), Reason.QUOTA_EXHAUSTED),
        (said("60 RPM", "insufficient_quota"), Reason.QUOTA_EXHAUSTED),
        (said(error_type="BillingError"), Reason.QUOTA_EXHAUSTED),
        (
            said("You exceeded your current quota, please check your plan and billing details."),
            Reason.QUOTA_EXHAUSTED,
        ),
        (said("Credit limit exceeded, please add credits", "credit_limit"), Reason.QUOTA_EXHAUSTED),
        (said("Insufficient balance"), Reason.QUOTA_EXHAUSTED),
        (said("Your credits are exhausted"), Reason.QUOTA_EXHAUSTED),
        (said("Monthly spending limit reached"), Reason.QUOTA_EXHAUSTED),
    ],
)
def test_limit(body: str, reason: Reason):
    """A 429 of pace and one of money; waiting helps with the first alone."""
    assert reason == failure(429, body).reason


def test_a_rejected_key_is_the_callers_or_ours():
    """Who must act depends on whose key it was."""
    assert Reason.CALLER_KEY_REJECTED == failure(401, caller_brought_key=True).reason
    assert Reason.SERVICE_KEY_REJECTED == failure(401, caller_brought_key=False).reason


def test_every_kind_has_a_sentence():
    """The tables fit together: what a status or an answer may mean, this module can say."""
    branches = {
        Reason.CONTEXT_LENGTH_EXCEEDED,
        Reason.MODEL_NOT_FOUND,
        Reason.CALLER_KEY_REJECTED,
        Reason.UPSTREAM_EDGE_BLOCKED,
        Reason.RATE_LIMITED_REQUESTS,
        Reason.RATE_LIMITED_TOKENS,
        Reason.QUOTA_EXHAUSTED,
        Reason.UPSTREAM_UNEXPECTED_STATUS,
        Reason.UPSTREAM_UNEXPECTED_SERVER_STATUS,
        Reason.UPSTREAM_STREAM_ERROR,
    }

    assert set(error_tables.STATUS.values()) | branches == set(error_tables.MESSAGES)
    assert set(error_tables.CODES.values()) <= set(error_tables.STATUS)
    assert error_tables.QUOTED <= set(error_tables.MESSAGES)


@pytest.mark.parametrize("body", [said(), PAGE])
def test_every_status_has_a_kind(body: str):
    """No status is without a meaning, with JSON or without."""
    for status in range(100, 1000):
        made = failure(status, body)
        assert made.message.startswith(error_tables.MESSAGES[made.reason])
        assert made.upstream is not None
        assert status == made.upstream.http_status


@pytest.mark.parametrize(
    ("error", "reason", "status"),
    [
        ({"message": "x", "code": "503"}, Reason.UPSTREAM_OVERLOADED, 503),
        ({"message": "x", "code": 503}, Reason.UPSTREAM_OVERLOADED, 503),
        ({"message": "x", "status": 429, "code": "whatever"}, Reason.RATE_LIMITED, 429),
        ({"message": "x", "type": "server_error"}, Reason.UPSTREAM_INTERNAL, 500),
        ({"message": "x", "type": "rate_limit_exceeded"}, Reason.RATE_LIMITED, 429),
        (
            {"message": "x", "type": "invalid_request_error", "code": "invalid_api_key"},
            Reason.SERVICE_KEY_REJECTED,
            401,
        ),
        ({"message": "x", "error_type": "dynamic_token_limited"}, Reason.RATE_LIMITED_TOKENS, 429),
        ({"message": "Credit limit exceeded", "type": "credit_limit"}, Reason.QUOTA_EXHAUSTED, 429),
        ({"message": "rate limited", "type": "credit_limit"}, Reason.RATE_LIMITED, 429),
        (
            {"message": OVERFLOW, "type": "BadRequestError", "code": 40303},
            Reason.CONTEXT_LENGTH_EXCEEDED,
            400,
        ),
        ({"message": OVERFLOW}, Reason.CONTEXT_LENGTH_EXCEEDED, None),
        ({"message": NO_MODEL}, Reason.MODEL_NOT_FOUND, None),
        ({"message": "x", "code": 200}, Reason.UPSTREAM_STREAM_ERROR, None),
        ({"message": "x", "code": 40303}, Reason.UPSTREAM_STREAM_ERROR, None),
        ({"message": "x", "type": "engine_exploded"}, Reason.UPSTREAM_STREAM_ERROR, None),
        ("x", Reason.UPSTREAM_STREAM_ERROR, None),
        (["x"], Reason.UPSTREAM_STREAM_ERROR, None),
        (True, Reason.UPSTREAM_STREAM_ERROR, None),
    ],
)
def test_error_inside_a_stream(error: object, reason: Reason, status: int | None):
    """Its number says what it is, else its words; there is no HTTP status to go by."""
    body = schema.parse_error(json.dumps({"id": "r", "error": error}).encode())
    assert body is not None

    made = errors.from_stream_error(body)

    assert made.upstream is not None
    assert (reason, status) == (made.reason, made.upstream.http_status)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (429, {"x-ratelimit-reset": "2"}, 2.0),
        (503, {"retry-after": "7"}, 7.0),
        (408, {"retry-after": "7"}, 7.0),
        (429, {}, None),
        (400, {"retry-after": "7", "x-ratelimit-reset": "2"}, None),
        (401, {"retry-after": "7"}, None),
    ],
)
def test_wait(status: int, headers: dict[str, str], expected: float | None):
    """The provider's wish is passed on where waiting can help."""
    assert expected == failure(status, headers=headers).retry_after_s


def test_what_the_provider_said_is_quoted_where_it_helps():
    """The caller can mend a request with the provider's words; they are cut and on one line."""
    message = failure(422, said("Input\nvalidation \u202eerror: " + "x" * 1_000)).message

    quoted = message.removeprefix("the provider does not accept the request: ")
    assert quoted.startswith("Input validation error: xxx")
    assert TEXT_CHARACTERS_MAX == len(quoted)


def test_nothing_is_quoted_elsewhere():
    """What is no fault of the request's is told in our words alone."""
    quoted = [status for status in range(300, 600) if "canary" in failure(status).message]

    assert [400, 413, 422] == quoted


@pytest.mark.parametrize("body", [PAGE, "canary", '["canary"]'])
def test_pages_and_texts_are_never_quoted(body: str):
    """They come from an edge, and say more of its insides than of the request."""
    assert [] == [status for status in range(300, 600) if "canary" in failure(status, body).message]


KEY = "tgp_v1_" + "k" * 40
KEYS = [
    pytest.param(KEY, id="today's"),
    pytest.param("0123456789abcdef" * 4, id="the older form"),
    pytest.param("tok_kkkkkkkk", id="tok_"),
    pytest.param("sk-proj-kkkkkkkk", id="sk-"),
    pytest.param("Bearer kkkkkkkk", id="a header"),
    pytest.param("kkkkkkkk", id="of no known form"),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("padding", [0, 240, 2_000])
def test_no_key_is_ever_shown(key: str, padding: int):
    """Neither in the message, nor in its type and code, nor cut in half at the end."""
    body = said("x" * padding + f" bad key '{key}', retry", error_type=key, code=key)
    secrets = (Secret(key.removeprefix("Bearer ")),)

    for status in (400, 401, 403, 404, 413, 422, 429, 500):
        made = failure(status, body, secrets=secrets)
        assert made.upstream is not None
        shown = " ".join((made.message, made.upstream.error_type, made.upstream.error_code, repr(made)))
        assert "kkkk" not in shown
        assert "0123" not in shown


JSON_ERRORS = [case for case in golden.cases("error") if (case / "upstream.json").exists()]


@pytest.mark.parametrize("case", JSON_ERRORS, ids=golden.name)
def test_an_http_failure_and_the_same_in_a_stream_agree(case):
    """An error keeps its meaning when it comes late, as far as it says what it is."""
    body = schema.parse_error(golden.upstream(case))
    assert body is not None
    status = json.loads((case / "answer.json").read_text("utf-8"))["status"]

    body.status = status

    assert failure(status, golden.upstream(case)).reason == errors.from_stream_error(body).reason
