import json

import pytest

from togetherchat_server.domain.call import Call, Progress
from togetherchat_server.domain.reasons import Reason, ServiceError, Violation
from togetherchat_server.frontends.grpc.status import ROWS as RPC_ROWS
from togetherchat_server.frontends.grpc.status import Retry
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


def fault(reason, message="No.", *, output_sent=False, fraction=0.0, previous_attempts=0, **facts):
    error = ServiceError(reason, message, **facts)
    of = call(previous_attempts=previous_attempts)
    return error_response(error, of, output_sent=output_sent, fraction=fraction)


def test_the_table_is_total():
    """A reason without a row would be a failure within a failure."""
    assert set(Reason) == set(ROWS)


@pytest.mark.parametrize("reason", Reason)
def test_a_retry_is_advised_where_grpc_advises_one(reason):
    """The two fronts agree, and on the words for why."""
    assert (RPC_ROWS[reason].retry is Retry.LATER) == ROWS[reason].later
    assert RPC_ROWS[reason].reason == ROWS[reason].reason


@pytest.mark.parametrize("reason", Reason)
def test_a_body_is_openais(reason):
    """Four members, two of which are never null."""
    body = json.loads(fault(reason).body())

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
    """401, 429 and 500 mean what its table says."""
    assert status == fault(reason).status


@pytest.mark.parametrize("reason", Reason)
def test_the_statuses_are_errors(reason):
    """Clients look no further where a status is a success."""
    assert 400 <= ROWS[reason].status < 600


def headers(found):
    return dict(found.headers)


def test_a_wait_is_told_in_both_headers():
    """What was asked for, spread by at most a fifth, never less."""
    least = headers(fault(Reason.RATE_LIMITED, retry_after_s=7.0, fraction=0.0))
    most = headers(fault(Reason.RATE_LIMITED, retry_after_s=7.0, fraction=1.0))

    assert ("7", "7000") == (least["retry-after"], least["retry-after-ms"])
    assert ("9", "8400") == (most["retry-after"], most["retry-after-ms"])


def test_without_a_word_of_the_providers_the_wait_grows():
    """A client that comes again and again is told to wait longer."""
    waits = [
        int(headers(fault(Reason.OVERLOADED, fraction=1.0, previous_attempts=n))["retry-after-ms"])
        for n in range(3)
    ]

    assert [250, 500, 1000] == waits


def test_after_output_nothing_is_to_be_tried_again():
    """It would be billed twice."""
    found = headers(fault(Reason.UPSTREAM_OVERLOADED, output_sent=True))

    assert "false" == found["x-should-retry"]
    assert "retry-after" not in found


def test_headers_carry_what_is_legal():
    """A line break of the provider's would be a header of its own."""
    found = headers(fault(Reason.INTERNAL_ERROR))

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
def test_places_are_told_in_the_callers_words(field, param):
    """Nobody who sends OpenAI's JSON has seen our messages."""
    violation = Violation(field=field, description="must be so on ROLE_USER")
    found = fault(Reason.INVALID_REQUEST, f"{field}: must be so on ROLE_USER", violations=(violation,))

    assert param == found.param
    assert found.message.endswith("must be so on user")


def test_the_reason_of_the_record_is_a_header():
    """What the log says can be looked up by what the caller saw."""
    assert "RATE_LIMITED_TOKENS" == headers(fault(Reason.RATE_LIMITED_TOKENS))["x-error-reason"]
