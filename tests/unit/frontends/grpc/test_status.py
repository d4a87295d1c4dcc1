import base64
import json
import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from togetherchat_server.calls.response_metadata import response_metadata
from togetherchat_server.domain.call import Call, Phase, Progress
from togetherchat_server.domain.reasons import FieldViolation, ProviderErrorInfo, Reason, ServiceError
from togetherchat_server.frontends.grpc.status import (
    CODES,
    RETRIED_CODES,
    STATUS_BYTES_MAX,
    Pushback,
    code_of,
    pushback_of,
    status_of,
)

SERVICE_CONFIG = Path(__file__).parents[4] / "protos" / "togetherchat" / "v1" / "service_config.json"
DETAIL_TYPES = {
    type_.DESCRIPTOR.full_name: type_
    for type_ in (
        details.ErrorInfo,
        details.RequestInfo,
        details.RetryInfo,
        details.QuotaFailure,
        details.PreconditionFailure,
        details.ResourceInfo,
        details.Help,
        details.BadRequest,
    )
}


def call(**progress):
    return Call(
        id="request-1",
        method="/s/M",
        received_s=0.0,
        deadline_s=60.0,
        deadline_reason=Reason.CALL_TIMEOUT,
        upstream_key=None,
        progress=Progress(model="some/model", **progress),
    )


def status_for(error, *, of=None, output_sent=False, seconds_left=60.0, fraction=0.0):
    return status_of(
        error, of or call(), output_sent=output_sent, seconds_left=seconds_left, fraction=fraction
    )


def unpacked(status):
    packed = status_pb2.Status.FromString(dict(status.trailers)["grpc-status-details-bin"])
    found = {}
    for part in packed.details:
        name = part.TypeName()
        found[name.rpartition(".")[2]] = DETAIL_TYPES[name].FromString(part.value)
    return packed, found


def test_the_table_is_total():
    """Every reason of failure has its row."""
    assert set(Reason) == set(CODES)


@pytest.mark.parametrize("reason", Reason)
def test_every_status_carries_error_info_and_request_info(reason):
    """Code, reason (in the details and the trailer) and request id are those of the table and the call."""
    status = status_for(ServiceError(reason, "text"))
    packed, found = unpacked(status)
    code = CODES[reason]

    assert (code, "text", code.value[0], "text") == (
        status.code,
        status.message,
        packed.code,
        packed.message,
    )
    assert ("togetherchat", reason, "request-1") == (
        found["ErrorInfo"].domain,
        found["ErrorInfo"].reason,
        found["RequestInfo"].request_id,
    )
    assert reason == dict(status.trailers)["x-error-reason"]


@pytest.mark.parametrize("reason", Reason)
def test_every_code_that_clients_retry_carries_a_pushback(reason):
    """UNAVAILABLE and RESOURCE_EXHAUSTED are in the clients' retry policy: each comes with a pushback."""
    status = status_for(ServiceError(reason, "text"))
    retried = status.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}

    assert not retried or "grpc-retry-pushback-ms" in dict(status.trailers)


def test_nothing_is_retried_once_output_was_sent():
    """The caller has part of a completion: another attempt would begin another completion."""
    for reason in Reason:
        trailers = dict(status_for(ServiceError(reason, "text"), output_sent=True).trailers)

        assert trailers["x-error-retryable"] == "false"
        assert trailers.get("grpc-retry-pushback-ms") in {None, "-1"}


@pytest.mark.parametrize(("fraction", "milliseconds"), [(0.0, "2000"), (0.5, "2200"), (1.0, "2400")])
def test_the_providers_delay_is_a_minimum_with_jitter(fraction, milliseconds):
    """Clients obey the delay exactly, so the service adds the jitter: up to a fifth."""
    status = status_for(ServiceError(Reason.RATE_LIMITED, "slow down", retry_after_s=2.0), fraction=fraction)

    assert milliseconds == dict(status.trailers)["grpc-retry-pushback-ms"]


def test_without_a_delay_from_the_provider_the_back_off_grows_with_attempts():
    """The delay is half to all of 0.25 s, doubled with every earlier attempt."""
    first = status_for(ServiceError(Reason.OVERLOADED, "full"), fraction=1.0)
    later = status_of(
        ServiceError(Reason.OVERLOADED, "full"),
        Call(
            id="r",
            method="m",
            received_s=0,
            deadline_s=9,
            deadline_reason=Reason.CALL_TIMEOUT,
            upstream_key=None,
            previous_attempts=2,
        ),
        output_sent=False,
        seconds_left=60.0,
        fraction=1.0,
    )

    assert [dict(s.trailers)["grpc-retry-pushback-ms"] for s in (first, later)] == ["250", "1000"]


def test_a_delay_beyond_the_deadline_becomes_minus_one():
    """A client would wait for its deadline in vain; RetryInfo has the actual delay."""
    status = status_for(ServiceError(Reason.RATE_LIMITED, "slow", retry_after_s=30.0), seconds_left=10.0)
    _, found = unpacked(status)

    assert tuple(dict(status.trailers)[name] for name in ("grpc-retry-pushback-ms", "x-error-retryable")) == (
        "-1",
        "true",
    )
    assert found["RetryInfo"].retry_delay.seconds == 30


@pytest.mark.parametrize("requested_s", [1e12, 1e32, float("inf")])
def test_an_absurd_delay_still_makes_a_valid_status(requested_s):
    """A provider may ask for a million years."""
    status = status_for(ServiceError(Reason.RATE_LIMITED, "slow", retry_after_s=requested_s))
    _, found = unpacked(status)

    assert "-1" == dict(status.trailers)["grpc-retry-pushback-ms"]
    assert found["RetryInfo"].retry_delay.ToTimedelta().days >= 3650


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        (Reason.RATE_LIMITED_TOKENS, "QuotaFailure"),
        (Reason.CALLER_QUOTA, "QuotaFailure"),
        (Reason.CALLER_QUOTA, "RetryInfo"),
        (Reason.OVERLOADED, "RetryInfo"),
        (Reason.DRAINING, "RetryInfo"),
        (Reason.SPEND_LIMIT_REACHED, "PreconditionFailure"),
        (Reason.SPEND_LIMIT_REACHED, "Help"),
        (Reason.MODEL_NOT_FOUND, "ResourceInfo"),
        (Reason.CALLER_KEY_REJECTED, "Help"),
    ],
)
def test_a_reason_has_its_own_detail(reason, detail):
    """For example, QuotaFailure for a rate limit."""
    assert detail in unpacked(status_for(ServiceError(reason, "text")))[1]


def test_violations_become_a_bad_request():
    """Every violation keeps its path."""
    error = ServiceError(
        Reason.INVALID_REQUEST,
        "2 problems",
        violations=(
            FieldViolation(field="model", description="is missing"),
            FieldViolation(field="n", description="1 to 128"),
        ),
    )
    _, found = unpacked(status_for(error))

    assert [
        (violation.field, violation.description) for violation in found["BadRequest"].field_violations
    ] == [("model", "is missing"), ("n", "1 to 128")]


def test_metadata_has_the_providers_error_and_the_progress_of_the_call():
    """The facts that a program needs are in the metadata of ErrorInfo."""
    error = ServiceError(
        Reason.UPSTREAM_OVERLOADED,
        "busy",
        upstream=ProviderErrorInfo(http_status=503, error_type="server_error", error_code="overloaded"),
    )
    of = call(attempts=2, phase=Phase.RESPONDING, upstream_request_id="up-1", output_deltas=3)
    _, found = unpacked(status_for(error, of=of, output_sent=True))

    assert dict(found["ErrorInfo"].metadata) == {
        "model": "some/model",
        "phase": "responding",
        "partialOutput": "true",
        "upstreamHttpStatus": "503",
        "upstreamErrorType": "server_error",
        "upstreamErrorCode": "overloaded",
        "upstreamRequestId": "up-1",
        "attempts": "2",
        "usageCompletionTokens": "3",
        "usageEstimated": "true",
    }


def test_the_status_stays_small_whatever_goes_in():
    """gRPC replaces a status above 8 KiB; ours ends at 4 KiB, with as many violations as fit."""
    error = ServiceError(
        Reason.INVALID_REQUEST,
        "x" * 100_000,
        violations=tuple(
            FieldViolation(field=f"messages[{i}].content", description="y" * 200) for i in range(1000)
        ),
        upstream=ProviderErrorInfo(http_status=400, error_type="t" * 5000, error_code="c" * 5000),
    )
    of = call(upstream_request_id="i" * 5000)
    status = status_for(error, of=of)
    packed, found = unpacked(status)

    assert packed.ByteSize() <= STATUS_BYTES_MAX
    assert len(found["BadRequest"].field_violations) > 1
    encoded = sum(
        len(name) + len(base64.b64encode(value) if isinstance(value, bytes) else value)
        for name, value in status.trailers
    )
    assert encoded < 8192


@pytest.mark.parametrize("value", ["a\nb", "é", "a\x00", "\x7f", "", " lead", "trail ", "x" * 300])
def test_a_value_that_is_illegal_in_a_trailer_is_dropped(value):
    """One illegal character would replace the whole status with INTERNAL."""
    of = call(
        upstream_request_id=value, rate_limits=(("x-ratelimit-limit", value), ("x-ratelimit-reset", "2"))
    )
    trailers = dict(response_metadata(of))

    assert (
        trailers["x-ratelimit-reset"],
        trailers.get("x-upstream-request-id"),
        trailers.get("x-ratelimit-limit"),
    ) == ("2", None, None)


def test_foreign_text_in_the_message_becomes_one_printable_line():
    """Control characters and line ends of a hostile text do not reach the status."""
    status = status_for(ServiceError(Reason.UPSTREAM_INTERNAL, "a\r\nb\x00c\x1b[31m" + "z" * 1000))

    assert status.message.startswith("a b c [31mzzz")
    assert len(status.message) <= 256
    assert re.fullmatch(r"[\x20-\x7e…]+", status.message)


def test_the_retried_codes_are_those_of_the_service_config():
    """Clients retry no other code of a failure, and CANCELLED, which gRPC sends while a server stops."""
    methods = json.loads(SERVICE_CONFIG.read_text("utf-8"))["methodConfig"]
    policies = [method["retryPolicy"] for method in methods if "retryPolicy" in method]

    assert policies
    names = {code.name for code in RETRIED_CODES}
    assert all(names | {"CANCELLED"} == set(policy["retryableStatusCodes"]) for policy in policies)


@pytest.mark.parametrize("reason", Reason)
def test_a_retryable_reason_has_a_code_that_clients_retry(reason):
    """The table itself is right: no code is replaced without an exception to the reason's row."""
    assert CODES[reason] is code_of(ServiceError(reason, "text"))
    assert (CODES[reason] in RETRIED_CODES) or not reason.row.retryable


@pytest.mark.parametrize(
    ("reason", "retryable", "code", "pushback"),
    [
        (Reason.UPSTREAM_EDGE_UNREACHABLE, None, grpc.StatusCode.UNAVAILABLE, Pushback.DELAY),
        (Reason.UPSTREAM_EDGE_UNREACHABLE, False, grpc.StatusCode.UNAVAILABLE, Pushback.NEVER),
        (Reason.UPSTREAM_UNEXPECTED_STATUS, False, grpc.StatusCode.INTERNAL, Pushback.NEVER),
        (Reason.UPSTREAM_UNEXPECTED_STATUS, True, grpc.StatusCode.UNAVAILABLE, Pushback.DELAY),
        (Reason.CALLER_QUOTA, False, grpc.StatusCode.RESOURCE_EXHAUSTED, Pushback.NEVER),
        (Reason.CALLER_DEADLINE, None, grpc.StatusCode.DEADLINE_EXCEEDED, Pushback.NONE),
        (Reason.CALL_TIMEOUT, None, grpc.StatusCode.DEADLINE_EXCEEDED, Pushback.NEVER),
    ],
)
def test_an_error_overrules_the_retry_of_its_reason(reason, retryable, code, pushback):
    """The reason stays the same; pushback, code and the plain-text trailer follow the error."""
    error = ServiceError(reason, "text", retryable=retryable)
    trailers = dict(status_for(error).trailers)

    assert (code, pushback) == (code_of(error), pushback_of(error))
    assert code is status_for(error).code
    assert (pushback is Pushback.DELAY) == (trailers["x-error-retryable"] == "true")
    assert reason == trailers["x-error-reason"]
