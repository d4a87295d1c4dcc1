"""Checks that gRPC can send a failure: gRPC replaces a status with invalid trailers."""

import re
from collections.abc import Mapping
from typing import Final

from google.rpc import error_details_pb2, status_pb2

from togetherchat_server.calls.response_metadata import response_metadata
from togetherchat_server.domain.call import Call, Progress
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.grpc.status import STATUS_BYTES_MAX, status_of

DURATION_S_MAX: Final = 315_576_000_000
"""Ten thousand years: the largest protobuf Duration."""

_NAME = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")


def packed_status(error: ServiceError, headers: Mapping[str, str]) -> bytes:
    """The packed status, after checking it and all trailers. `headers` are the provider's."""
    progress = Progress(
        attempts=1,
        model="some/model",
        upstream_request_id=headers.get("x-request-id", ""),
        rate_limits=tuple(item for item in headers.items() if item[0].startswith("x-ratelimit-")),
    )
    call = Call(
        id="id",
        method="/m",
        received_s=0.0,
        deadline_s=60.0,
        deadline_reason=Reason.CALL_TIMEOUT,
        upstream_key=None,
        progress=progress,
    )
    status = status_of(error, call, output_sent=False, seconds_left=60.0, fraction=1.0)
    for name, value in (*status.trailers, *response_metadata(call)):
        assert _NAME.fullmatch(name)
        assert isinstance(value, bytes) or _TEXT.fullmatch(value)
    packed = dict(status.trailers)["grpc-status-details-bin"]
    assert isinstance(packed, bytes)
    assert len(packed) <= STATUS_BYTES_MAX
    details = status_pb2.Status.FromString(packed).details
    assert details
    for detail in details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            assert 0 <= retry.retry_delay.seconds <= DURATION_S_MAX
    return packed
