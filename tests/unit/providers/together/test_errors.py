"""The table from Together's failures to reasons, one case per row."""

import json

import pytest

from support import golden
from togetherchat_server.domain.reasons import TEXT_CHARACTERS_MAX, Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import error_tables, errors, schema

OVERFLOW = "The input (170071 tokens) is longer than the model's context length (131072 tokens)."
MODEL_NOT_FOUND_TEXT = "Unable to access model some/model. Please visit the list."
HTML_PAGE = "<!DOCTYPE html><html><body>canary</body></html>"


def body_of(
    message: str = "canary", error_type: str | None = "invalid_request_error", code: object = None
) -> str:
    return json.dumps(
        {"id": "r", "error": {"message": message, "type": error_type, "param": None, "code": code}}
    )


def failure(status: int, body: str | bytes = body_of(), **changes: object) -> ServiceError:
    arguments: dict[str, object] = {
        "headers": {},
        "caller_brought_key": False,
        "now_wall_s": 0.0,
        "model": "some/model",
    }
    data = body if isinstance(body, bytes) else body.encode()
    return errors.from_response(status=status, body=data, **(arguments | changes))


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        # The message comes before the status: a context overflow comes with any 4xx.
        *[
            (status, body_of(OVERFLOW), Reason.CONTEXT_LENGTH_EXCEEDED)
            for status in (400, 401, 403, 413, 422, 429)
        ],
        (400, body_of(code="context_length_exceeded"), Reason.CONTEXT_LENGTH_EXCEEDED),
        (
            400,
            body_of("Requested token count exceeds the model's maximum context length of 8 tokens"),
            Reason.CONTEXT_LENGTH_EXCEEDED,
        ),
        (
            422,
            body_of("`inputs` tokens + `max_new_tokens` must be <= 8. Given: 9"),
            Reason.CONTEXT_LENGTH_EXCEEDED,
        ),
        (403, body_of("input plus max_tokens exceed the context length"), Reason.CONTEXT_LENGTH_EXCEEDED),
        (413, OVERFLOW, Reason.CONTEXT_LENGTH_EXCEEDED),
        (500, body_of(OVERFLOW), Reason.UPSTREAM_INTERNAL),
        (
            400,
            body_of("context_length_exceeded_behavior must be one of error, truncate"),
            Reason.UPSTREAM_INVALID_REQUEST,
        ),
        # The model: 400 and 404, by code or by text.
        *[(status, body_of(code="model_not_available"), Reason.MODEL_NOT_FOUND) for status in (400, 404)],
        *[(status, body_of(MODEL_NOT_FOUND_TEXT), Reason.MODEL_NOT_FOUND) for status in (400, 404)],
        (404, body_of("The model `x` does not exist.", code="model_not_found"), Reason.MODEL_NOT_FOUND),
        (404, body_of("Model x/y not found"), Reason.MODEL_NOT_FOUND),
        (404, body_of("no information on some/model"), Reason.MODEL_NOT_FOUND),
        (422, body_of(code="model_not_available"), Reason.UPSTREAM_INVALID_REQUEST),
        (404, MODEL_NOT_FOUND_TEXT, Reason.UPSTREAM_ENDPOINT_NOT_FOUND),
        (400, body_of("tools are not available with model some/model"), Reason.UPSTREAM_INVALID_REQUEST),
        # The status.
        (400, body_of("Input required"), Reason.UPSTREAM_INVALID_REQUEST),
        (400, HTML_PAGE, Reason.UPSTREAM_INVALID_REQUEST),
        (422, body_of("grammar is not valid"), Reason.UPSTREAM_INVALID_REQUEST),
        (413, "", Reason.REQUEST_TOO_LARGE),
        (401, body_of(code="invalid_api_key"), Reason.SERVICE_KEY_REJECTED),
        (401, "", Reason.SERVICE_KEY_REJECTED),
        (402, body_of("Credit limit exceeded", "credit_limit"), Reason.SPEND_LIMIT_REACHED),
        (403, body_of(), Reason.UPSTREAM_PERMISSION_DENIED),
        (400, body_of(code="dedicated_endpoint_not_running"), Reason.UPSTREAM_ENDPOINT_NOT_RUNNING),
        (403, HTML_PAGE, Reason.UPSTREAM_EDGE_BLOCKED),
        (403, "", Reason.UPSTREAM_EDGE_BLOCKED),
        (404, body_of(), Reason.UPSTREAM_ENDPOINT_NOT_FOUND),
        (404, "404 page not found", Reason.UPSTREAM_ENDPOINT_NOT_FOUND),
        (408, "", Reason.UPSTREAM_REQUEST_TIMEOUT),
        (409, body_of(), Reason.UPSTREAM_CONFLICT),
        (499, "", Reason.UPSTREAM_CLOSED),
        (500, body_of(error_type="server_error"), Reason.UPSTREAM_INTERNAL),
        (501, "", Reason.UPSTREAM_UNIMPLEMENTED),
        (502, HTML_PAGE, Reason.UPSTREAM_BAD_GATEWAY),
        (503, body_of(), Reason.UPSTREAM_OVERLOADED),
        (504, HTML_PAGE, Reason.UPSTREAM_GATEWAY_TIMEOUT),
        (520, HTML_PAGE, Reason.UPSTREAM_EDGE_ERROR),
        *[(status, HTML_PAGE, Reason.UPSTREAM_EDGE_UNREACHABLE) for status in (521, 522, 523, 525, 526, 530)],
        (524, HTML_PAGE, Reason.UPSTREAM_GATEWAY_TIMEOUT),
        (529, body_of(error_type="overloaded_error"), Reason.UPSTREAM_OVERLOADED),
        *[
            (status, "", Reason.UPSTREAM_UNEXPECTED_STATUS)
            for status in (100, 204, 301, 308, 405, 410, 418, 451, 505, 507, 527, 599, 999)
        ],
    ],
)
def test_reason(status: int, body: str, reason: Reason):
    """The reason for a status and a body."""
    assert reason == failure(status, body).reason


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        *[(status, True) for status in (521, 522, 523, 525, 530)],
        (526, False),
        *[(status, False) for status in (100, 204, 301, 405, 418, 451)],
        *[(status, True) for status in (505, 507, 527, 599, 999)],
    ],
)
def test_the_status_decides_on_a_retry_where_the_reason_does_not(status: int, retryable: bool):
    """A certificate that the edge does not trust stays so; an unexpected 5xx may pass."""
    assert retryable == failure(status, "").retryable


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (body_of(error_type="dynamic_request_limited"), Reason.RATE_LIMITED_REQUESTS),
        (body_of(code="dynamic_request_limited"), Reason.RATE_LIMITED_REQUESTS),
        ('{"error":{"error_type":"dynamic_token_limited"}}', Reason.RATE_LIMITED_TOKENS),
        ('{"error":"slow down","error_type":"dynamic_token_limited"}', Reason.RATE_LIMITED_TOKENS),
        (body_of("insufficient funds, 60 RPM", "dynamic_token_limited"), Reason.RATE_LIMITED_TOKENS),
        (body_of("Your rate limit is 60 queries per minute"), Reason.RATE_LIMITED_REQUESTS),
        (body_of("Rate limit reached: 60 RPM"), Reason.RATE_LIMITED_REQUESTS),
        (body_of("Rate limit reached: 180000 TPM"), Reason.RATE_LIMITED_TOKENS),
        (body_of("Limit of 5000 tokens per minute reached"), Reason.RATE_LIMITED_TOKENS),
        (
            body_of("rate limiting: 600 RPM (10 QPS) and 180000 TPM (3000 TPS)", "credit_limit"),
            Reason.RATE_LIMITED,
        ),
        (body_of("Quota exceeded: requests per minute"), Reason.RATE_LIMITED_REQUESTS),
        (body_of("Too many requests. Add a payment method to raise your limits."), Reason.RATE_LIMITED),
        (body_of("Slow down, see https://example.com/settings/billing"), Reason.RATE_LIMITED),
        (body_of("", "credit_limit"), Reason.RATE_LIMITED),
        ("", Reason.RATE_LIMITED),
        (HTML_PAGE, Reason.RATE_LIMITED),
        (body_of(code="insufficient_quota"), Reason.QUOTA_EXHAUSTED),
        (body_of("60 RPM", "insufficient_quota"), Reason.QUOTA_EXHAUSTED),
        (body_of(error_type="BillingError"), Reason.QUOTA_EXHAUSTED),
        (
            body_of("You exceeded your current quota, please check your plan and billing details."),
            Reason.QUOTA_EXHAUSTED,
        ),
        (body_of("Credit limit exceeded, please add credits", "credit_limit"), Reason.QUOTA_EXHAUSTED),
        (body_of("Insufficient balance"), Reason.QUOTA_EXHAUSTED),
        (body_of("Your credits are exhausted"), Reason.QUOTA_EXHAUSTED),
        (body_of("Monthly spending limit reached"), Reason.QUOTA_EXHAUSTED),
    ],
)
def test_429(body: str, reason: Reason):
    """A 429 is a rate limit or a used-up quota; waiting helps only with a rate limit."""
    assert reason == failure(429, body).reason


def test_a_rejected_key_is_the_callers_or_the_services():
    """The reason tells whose key was rejected, and so who must act."""
    assert Reason.CALLER_KEY_REJECTED == failure(401, caller_brought_key=True).reason
    assert Reason.SERVICE_KEY_REJECTED == failure(401, caller_brought_key=False).reason


def test_every_reason_has_a_message():
    """The tables fit together: every reason for a status or a body has a message."""
    branches = {
        Reason.CONTEXT_LENGTH_EXCEEDED,
        Reason.UPSTREAM_ENDPOINT_NOT_RUNNING,
        Reason.MODEL_NOT_FOUND,
        Reason.CALLER_KEY_REJECTED,
        Reason.UPSTREAM_EDGE_BLOCKED,
        Reason.RATE_LIMITED_REQUESTS,
        Reason.RATE_LIMITED_TOKENS,
        Reason.QUOTA_EXHAUSTED,
        Reason.UPSTREAM_UNEXPECTED_STATUS,
        Reason.UPSTREAM_STREAM_ERROR,
    }

    assert set(error_tables.STATUS.values()) | branches == set(error_tables.MESSAGES)
    assert set(error_tables.CODES.values()) <= set(error_tables.STATUS)
    assert error_tables.QUOTED <= set(error_tables.MESSAGES)


@pytest.mark.parametrize("body", [body_of(), HTML_PAGE])
def test_every_status_has_a_reason(body: str):
    """Every status has a reason, with JSON or without."""
    for status in range(100, 1000):
        made = failure(status, body)
        message = error_tables.MESSAGES[made.reason]
        assert made.message.startswith(error_tables.UNTRUSTED_MESSAGE if status == 526 else message)
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
        ({"message": MODEL_NOT_FOUND_TEXT}, Reason.MODEL_NOT_FOUND, None),
        ({"message": "x", "code": 200}, Reason.UPSTREAM_STREAM_ERROR, None),
        ({"message": "x", "code": 40303}, Reason.UPSTREAM_STREAM_ERROR, None),
        ({"message": "x", "type": "engine_exploded"}, Reason.UPSTREAM_STREAM_ERROR, None),
        ("x", Reason.UPSTREAM_STREAM_ERROR, None),
        (["x"], Reason.UPSTREAM_STREAM_ERROR, None),
        (True, Reason.UPSTREAM_STREAM_ERROR, None),
    ],
)
def test_error_inside_a_stream(error: object, reason: Reason, status: int | None):
    """The number in an error decides, else its code or type; there is no HTTP status."""
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
def test_retry_after(status: int, headers: dict[str, str], expected: float | None):
    """The provider's delay is passed on if waiting can help."""
    assert expected == failure(status, headers=headers).retry_after_s


def test_the_providers_text_is_quoted_if_it_helps():
    """The provider's text helps the caller to fix a request; it is cut and on one line."""
    message = failure(422, body_of("Input\nvalidation \u202eerror: " + "x" * 1_000)).message

    quoted = message.removeprefix("the provider does not accept the request: ")
    assert quoted.startswith("Input validation error: xxx")
    assert TEXT_CHARACTERS_MAX == len(quoted)


def test_no_other_failure_quotes_the_provider():
    """A failure that the request did not cause has only our message."""
    quoted = [status for status in range(300, 600) if "canary" in failure(status).message]

    assert [400, 413, 422] == quoted


@pytest.mark.parametrize("body", [HTML_PAGE, "canary", '["canary"]'])
def test_pages_and_texts_are_never_quoted(body: str):
    """They come from an edge and describe the edge, not the request."""
    assert [] == [status for status in range(300, 600) if "canary" in failure(status, body).message]


KEY = "tgp_v1_" + "k" * 40
KEYS = [
    pytest.param(KEY, id="the current format"),
    pytest.param("0123456789abcdef" * 4, id="the older format"),
    pytest.param("tok_kkkkkkkk", id="tok_"),
    pytest.param("sk-proj-kkkkkkkk", id="sk-"),
    pytest.param("Bearer kkkkkkkk", id="a header"),
    pytest.param("kkkkkkkk", id="an unknown format"),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("padding", [0, 240, 2_000])
def test_no_key_is_shown(key: str, padding: int):
    """No part of a key is in the message, the type or the code, even where the text is cut."""
    body = body_of("x" * padding + f" bad key '{key}', retry", error_type=key, code=key)
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
    """An error with a status has the same reason as a response and inside a stream."""
    body = schema.parse_error(golden.upstream(case))
    assert body is not None
    status = json.loads((case / "response.json").read_text("utf-8"))["status"]

    body.status = status

    assert failure(status, golden.upstream(case)).reason == errors.from_stream_error(body).reason
