import json

import pytest

from togetherchat_server.domain.call import Call, Progress
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError
from togetherchat_server.frontends.http.openai.errors import ROWS, error_response


def call(*, previous_attempts=0):
    return Call(
        id="request-1",
        method="m",
        received_s=0,
        deadline_s=60,
        deadline_reason=Reason.CALL_TIMEOUT,
        upstream_key=None,
        previous_attempts=previous_attempts,
        progress=Progress(upstream="together", rate_limits=(("x-ratelimit-reset", "2"), ("bad", "a\nb"))),
    )


def response(reason, message="No.", *, output_sent=False, fraction=0.0, previous_attempts=0, **facts):
    error = ServiceError(reason, message, **facts)
    of = call(previous_attempts=previous_attempts)
    return error_response(error, of, output_sent=output_sent, fraction=fraction)


def test_the_table_is_total():
    """A reason without a row would raise while an error is handled."""
    assert set(Reason) == set(ROWS)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("retryable", [None, False, True])
def test_a_retry_is_advised_if_the_error_is_retryable(reason, retryable):
    """The table of reasons decides, or else the error itself."""
    expected = reason.row.retryable if retryable is None else retryable

    assert ("true" if expected else "false") == headers(response(reason, retryable=retryable))[
        "x-should-retry"
    ]


@pytest.mark.parametrize("reason", Reason)
def test_a_body_has_openais_format(reason):
    """The body has four members, of which `type` and `code` are never empty."""
    body = json.loads(response(reason).body())

    assert {"error"} == body.keys()
    assert {"message", "type", "param", "code"} == body["error"].keys()
    assert body["error"]["code"]
    assert body["error"]["type"]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.CALLER_KEY_REJECTED, 401),
        (Reason.SERVICE_KEY_REJECTED, 401),
        (Reason.RATE_LIMITED, 429),
        (Reason.UPSTREAM_INTERNAL, 500),
        (Reason.INTERNAL_ERROR, 500),
    ],
)
def test_the_statuses_of_the_brief(reason, status):
    """401, 429 and 500 have the meaning that the brief gives them."""
    assert status == response(reason).status


@pytest.mark.parametrize("reason", Reason)
def test_the_statuses_are_errors(reason):
    """Clients do not read the error if the status is a success."""
    assert 400 <= ROWS[reason].status < 600


def headers(response):
    return dict(response.headers)


def test_a_delay_is_sent_in_both_headers():
    """Both have the required delay, plus at most a fifth as jitter."""
    least = headers(response(Reason.RATE_LIMITED, retry_after_s=7.0, fraction=0.0))
    most = headers(response(Reason.RATE_LIMITED, retry_after_s=7.0, fraction=1.0))

    assert ("7", "7000") == (least["retry-after"], least["retry-after-ms"])
    assert ("9", "8400") == (most["retry-after"], most["retry-after-ms"])


def test_without_a_delay_from_the_provider_the_delay_grows():
    """A client that retries again and again must wait longer."""
    delays = [
        int(headers(response(Reason.OVERLOADED, fraction=1.0, previous_attempts=n))["retry-after-ms"])
        for n in range(3)
    ]

    assert [250, 500, 1000] == delays


def test_after_output_a_failure_is_not_retryable():
    """A retry would be billed twice."""
    found = headers(response(Reason.UPSTREAM_OVERLOADED, output_sent=True))

    assert "false" == found["x-should-retry"]
    assert "retry-after" not in found


def test_illegal_header_values_are_dropped():
    """A line break in a value of the provider's would start another header."""
    found = headers(response(Reason.INTERNAL_ERROR))

    assert {
        "x-request-id",
        "x-upstream",
        "x-ratelimit-reset",
        "x-error-reason",
        "x-should-retry",
    } == found.keys()


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("messages[0].content[1].image.url", "messages[0].content[1].image_url.url"),
        ("messages[0].content[1].video_url", "messages[0].content[1].video_url.url"),
        ("messages[0].content[1].audio.format", "messages[0].content[1].input_audio.format"),
        ("tools[2].function.parameters_json", "tools[2].function.parameters"),
        ("response_format.json_schema.schema_json", "response_format.json_schema.schema"),
        ("extra_body_json", None),
        ("temperature", "temperature"),
    ],
)
def test_field_paths_are_those_of_openais_api(field, param):
    """A caller that sends OpenAI's JSON does not know our messages."""
    violation = FieldViolation(field=field, description="must be so on ROLE_USER")
    found = response(Reason.INVALID_REQUEST, f"{field}: must be so on ROLE_USER", violations=(violation,))

    assert param == found.param
    assert found.message.endswith("must be so on user")


def test_the_reason_of_the_record_is_a_header():
    """The caller's error can be found in the log by its reason."""
    assert "RATE_LIMITED_TOKENS" == headers(response(Reason.RATE_LIMITED_TOKENS))["x-error-reason"]
