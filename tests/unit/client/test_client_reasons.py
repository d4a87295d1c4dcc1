"""Tests of the reasons that the client sets itself: the list that all clients share, and gRPC's messages."""

import json
from dataclasses import asdict
from pathlib import Path

import grpc
import pytest

from conformance import judge
from support.scripted_service import Failure
from togetherchat_client import UnavailableError
from togetherchat_client.client_reasons import REASON_BY_HTTP_STATUS, REASONS
from togetherchat_client.errors import error_from_status

LISTED = json.loads((Path(judge.CASES).parent / "client_reasons.json").read_text("utf-8"))["client_reasons"]


def failed(code, message, trailers=()):
    return error_from_status(code, message, trailers, request_id="r")


def test_the_table_is_that_of_all_clients():
    """Reason, `retryable` and hint of each entry, and its HTTP statuses."""
    expected = {
        each["reason"]: {name: each[name] for name in ("reason", "retryable", "hint")} for each in LISTED
    }
    statuses = {status: each["reason"] for each in LISTED for status in each["http_statuses"]}

    assert expected == {name: asdict(each) for name, each in REASONS.items()}
    assert statuses == REASON_BY_HTTP_STATUS


def test_a_refused_connection_is_retryable():
    """UNAVAILABLE without details."""
    error = failed(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
    assert (UnavailableError, "NOT_CONNECTED", True) == (type(error), error.reason, error.retryable)
    assert error.hint in str(error)


@pytest.mark.parametrize(
    ("code", "status", "reason", "retryable"),
    [
        (grpc.StatusCode.UNKNOWN, 413, "PROXY_REQUEST_TOO_LARGE", False),
        (grpc.StatusCode.UNAVAILABLE, 502, "PROXY_UNAVAILABLE", True),
        (grpc.StatusCode.UNKNOWN, 500, "PROXY_ERROR", None),
    ],
)
def test_the_http_status_of_a_proxy_selects_the_reason(code, status, reason, retryable):
    """The status is in gRPC's message."""
    error = failed(code, f"Received http2 header with status: {status}")
    assert (reason, retryable) == (error.reason, error.retryable)


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (grpc.StatusCode.UNKNOWN, "Stream removed", "PROXY_ERROR"),
        (grpc.StatusCode.UNKNOWN, "Stream removed (Data frame with END_STREAM flag received)", "PROXY_ERROR"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Stream removed (Deadline Exceeded)", ""),
        (grpc.StatusCode.UNKNOWN, "something else", ""),
    ],
)
def test_a_stream_without_trailers_is_a_proxys(code, message, reason):
    """gRPC 1.72 and 1.85 lose the HTTP status of an asyncio stream, each with its own message."""
    assert reason == failed(code, message).reason


def test_a_reason_of_the_service_is_kept():
    """The client names only failures that the service could not name."""
    trailers = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="OVERLOADED", retryable=False).trailers()
    error = failed(grpc.StatusCode.UNAVAILABLE, "Received http2 header with status: 502", trailers)
    assert ("OVERLOADED", False, "") == (error.reason, error.retryable, error.hint)


def test_what_a_proxy_reports_as_retryable_is_kept():
    """`x-error-retryable` without a reason."""
    error = failed(grpc.StatusCode.UNAVAILABLE, "no", [("x-error-retryable", "false")])
    assert ("NOT_CONNECTED", False) == (error.reason, error.retryable)
