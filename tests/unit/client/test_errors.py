"""Tests of the exceptions: which class a status becomes, and its attributes."""

import pickle

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from support.scripted_service import Failure
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import (
    ConflictError,
    ContextLengthError,
    FailedPreconditionError,
    InvalidRequestError,
    QuotaExhaustedError,
    RateLimitedError,
    ResourceExhaustedError,
    SpendLimitError,
    TogetherChatError,
    UnavailableError,
    Violation,
)
from togetherchat_client.details import parse_details
from togetherchat_client.errors import CLASS_BY_CODE, CLASS_BY_REASON, error_class, error_from_status
from togetherchat_server.domain.reasons import Reason


def test_every_status_code_has_its_class():
    """The table has all of gRPC's status codes."""
    assert set(grpc.StatusCode) == set(CLASS_BY_CODE)


def test_every_reason_of_the_table_is_a_reason_of_the_service():
    """A reason that the service renames must be renamed in the table."""
    assert set() == set(CLASS_BY_REASON) - set(Reason)


def test_every_class_of_a_reason_refines_the_class_of_a_code():
    """Catching the class of a code also catches the classes of its reasons."""
    unrelated = [
        by_reason
        for by_reason in CLASS_BY_REASON.values()
        if not any(issubclass(by_reason, by_code) for by_code in CLASS_BY_CODE.values())
    ]
    assert [] == unrelated


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", RateLimitedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_QUOTA", RateLimitedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXHAUSTED", QuotaExhaustedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", ResourceExhaustedError),
        (grpc.StatusCode.FAILED_PRECONDITION, "SPEND_LIMIT_REACHED", SpendLimitError),
        (grpc.StatusCode.FAILED_PRECONDITION, "SOMETHING_NEW", FailedPreconditionError),
        (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED", ContextLengthError),
        (grpc.StatusCode.ABORTED, "UPSTREAM_CONFLICT", ConflictError),
    ],
)
def test_the_reason_refines_the_code(code, reason, expected):
    """A known reason selects the class; otherwise the code does."""
    assert expected is error_class(code, reason)


def test_a_reason_that_contradicts_the_code_is_ignored():
    """The code wins, because every other gRPC client acts on it."""
    assert UnavailableError is error_class(grpc.StatusCode.UNAVAILABLE, "QUOTA_EXHAUSTED")


def test_the_message_does_not_affect_the_class():
    """The message is for people and may change."""
    error = error_from_status(
        grpc.StatusCode.INVALID_ARGUMENT, "QUOTA_EXHAUSTED rate limit", (), request_id="r"
    )
    assert (InvalidRequestError, "", None) == (type(error), error.reason, error.retryable)


def test_an_error_info_of_another_domain_is_ignored():
    """The ErrorInfo of a proxy does not have one of the service's reasons."""
    status = status_pb2.Status(code=14)
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain="proxy.example", reason="MODEL_NOT_FOUND"))
    details = parse_details([("grpc-status-details-bin", status.SerializeToString())])
    assert ("", {}) == (details.reason, details.metadata)


@pytest.mark.parametrize("blob", [b"\xff\xff\xff", b""])
def test_the_plain_trailers_are_read_when_the_details_are_malformed(blob):
    """Malformed binary details do not hide `x-error-reason`."""
    details = parse_details([("grpc-status-details-bin", blob), ("x-error-reason", "OVERLOADED")])
    assert "OVERLOADED" == details.reason


def test_a_malformed_detail_does_not_hide_the_others():
    """Details are parsed one by one, and unknown types are skipped."""
    status = status_pb2.Status(code=14)
    status.details.add(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff")
    status.details.add(type_url="type.googleapis.com/somebody.v9.Detail", value=b"\xff")
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain="togetherchat", reason="OVERLOADED"))
    details = parse_details([("grpc-status-details-bin", status.SerializeToString())])
    assert ("OVERLOADED", None) == (details.reason, details.retry_after_s)


def test_quotas_and_preconditions_are_violations():
    """QuotaFailure and PreconditionFailure are read like BadRequest."""
    status = status_pb2.Status(code=8)
    quota = error_details_pb2.QuotaFailure()
    quota.violations.add(subject="requests", description="600 a minute")
    status.details.add().Pack(quota)
    precondition = error_details_pb2.PreconditionFailure()
    precondition.violations.add(type="SPEND", subject="account", description="limit reached")
    status.details.add().Pack(precondition)
    links = error_details_pb2.Help()
    links.links.add(url="https://docs.together.ai/docs/error-codes")
    status.details.add().Pack(links)
    details = parse_details([("grpc-status-details-bin", status.SerializeToString())])
    expected = (
        Violation(field="requests", description="600 a minute"),
        Violation(field="account", description="limit reached"),
    )
    assert (expected, ("https://docs.together.ai/docs/error-codes",)) == (
        details.violations,
        details.help_urls,
    )


def test_a_resource_has_its_name():
    """ResourceInfo names the model that was not found, and most failures have no resource."""
    named, unnamed = (
        Failure(code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", resource_name=name)
        for name in ("a/b", "")
    )
    assert ("a/b", "") == tuple(
        parse_details(failure.trailers()).resource_name for failure in (named, unnamed)
    )


def test_the_services_request_id_overrides_the_sent_one():
    """The service may replace the id, and its logs then have its own only."""
    error = error_from_status(grpc.StatusCode.INTERNAL, "", [("x-request-id", "theirs")], request_id="mine")
    assert "theirs" == error.request_id


def test_the_text_of_an_error_has_reason_message_and_id():
    """One line that fits a log."""
    failure = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="OVERLOADED", message="busy")
    error = error_from_status(failure.code, failure.message, failure.trailers(), request_id="mine")
    assert "OVERLOADED: busy (request mine)" == str(error)


def test_errors_can_be_pickled():
    """Work queues pass exceptions between processes."""
    failure = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="OVERLOADED", message="busy")
    error = error_from_status(
        failure.code,
        failure.message,
        failure.trailers(),
        request_id="mine",
        partial=service.CompleteResponse(id="chat-1"),
    )
    again = pickle.loads(pickle.dumps(error))
    assert (type(error), str(error), error.partial) == (type(again), str(again), again.partial)


def test_every_class_is_a_together_chat_error():
    """One `except` catches every failed call."""
    assert all(issubclass(each, TogetherChatError) for each in CLASS_BY_CODE.values())
