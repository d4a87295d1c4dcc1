"""From what went wrong to a gRPC status: the table, its details and its trailers.

Pure: a `ServiceError` and the facts of its call go in, a `GrpcStatus` comes out. Trailers above
8 KiB make gRPC replace the status with RESOURCE_EXHAUSTED at random, and one illegal
character in a value replaces it with INTERNAL (both measured on grpcio 1.85): so everything
variable is bounded and checked here.

A client obeys `grpc-retry-pushback-ms` to the millisecond, which would send a thousand
refused clients back in the same instant: the delay is jittered here. A delay beyond the
caller's deadline would make the caller idle until then: it becomes -1, and RetryInfo says
the true one.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from togetherchat_server.calls.session import response_metadata, retry_delay_s
from togetherchat_server.domain.call import Call, Phase
from togetherchat_server.domain.reasons import Reason, ServiceError, sanitise

DOMAIN: Final = "togetherchat"
STATUS_BYTES_MAX: Final = 4096

Metadata = tuple[tuple[str, str | bytes], ...]


class Retry(enum.Enum):
    """What a client's own retry policy is told."""

    SILENT = "the code is not one that clients retry: nothing is said"
    NEVER = "-1: a retry fails again, or may be billed twice"
    LATER = "a delay in milliseconds"


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One row of the error table. `reason` is the reason's own name unless it is given."""

    code: grpc.StatusCode
    retry: Retry
    reason: str = ""


_C = grpc.StatusCode

ROWS: Final[Mapping[Reason, StatusRow]] = {
    Reason.INVALID_REQUEST: StatusRow(_C.INVALID_ARGUMENT, Retry.SILENT),
    Reason.REQUEST_TOO_LARGE: StatusRow(_C.INVALID_ARGUMENT, Retry.SILENT),
    Reason.CONTEXT_LENGTH_EXCEEDED: StatusRow(_C.INVALID_ARGUMENT, Retry.SILENT),
    Reason.MODEL_NOT_FOUND: StatusRow(_C.NOT_FOUND, Retry.SILENT),
    Reason.UPSTREAM_INVALID_REQUEST: StatusRow(_C.INVALID_ARGUMENT, Retry.SILENT),
    Reason.MISSING_CREDENTIALS: StatusRow(_C.UNAUTHENTICATED, Retry.SILENT),
    Reason.INVALID_CREDENTIALS: StatusRow(_C.UNAUTHENTICATED, Retry.SILENT),
    Reason.CALLER_KEY_REJECTED: StatusRow(_C.UNAUTHENTICATED, Retry.SILENT),
    Reason.MODEL_NOT_ALLOWED: StatusRow(_C.PERMISSION_DENIED, Retry.SILENT),
    Reason.CALLER_QUOTA: StatusRow(_C.RESOURCE_EXHAUSTED, Retry.LATER),
    Reason.CALLER_DEADLINE: StatusRow(_C.DEADLINE_EXCEEDED, Retry.SILENT),
    Reason.CALLER_CANCELLED: StatusRow(_C.CANCELLED, Retry.SILENT),
    Reason.CALLER_STALLED: StatusRow(_C.CANCELLED, Retry.SILENT),
    Reason.SERVICE_KEY_REJECTED: StatusRow(_C.UNAUTHENTICATED, Retry.SILENT),
    Reason.SPEND_LIMIT_REACHED: StatusRow(_C.FAILED_PRECONDITION, Retry.NEVER),
    Reason.QUOTA_EXHAUSTED: StatusRow(_C.RESOURCE_EXHAUSTED, Retry.NEVER),
    Reason.RATE_LIMITED: StatusRow(_C.RESOURCE_EXHAUSTED, Retry.LATER),
    Reason.RATE_LIMITED_REQUESTS: StatusRow(_C.RESOURCE_EXHAUSTED, Retry.LATER),
    Reason.RATE_LIMITED_TOKENS: StatusRow(_C.RESOURCE_EXHAUSTED, Retry.LATER),
    Reason.UPSTREAM_PERMISSION_DENIED: StatusRow(_C.PERMISSION_DENIED, Retry.SILENT),
    Reason.UPSTREAM_CONNECT_FAILED: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_DNS_FAILED: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_CONNECT_TIMEOUT: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_TLS_FAILED: StatusRow(_C.UNAVAILABLE, Retry.NEVER),
    Reason.UPSTREAM_EDGE_BLOCKED: StatusRow(_C.UNAVAILABLE, Retry.NEVER),
    Reason.UPSTREAM_EDGE_ERROR: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_EDGE_UNREACHABLE: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_EDGE_CERTIFICATE: StatusRow(_C.UNAVAILABLE, Retry.NEVER, "UPSTREAM_EDGE_UNREACHABLE"),
    Reason.UPSTREAM_BAD_GATEWAY: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_ENDPOINT_NOT_FOUND: StatusRow(_C.INTERNAL, Retry.NEVER),
    Reason.UPSTREAM_CONFLICT: StatusRow(_C.ABORTED, Retry.SILENT),
    Reason.UPSTREAM_CLOSED: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_INTERNAL: StatusRow(_C.INTERNAL, Retry.NEVER),
    Reason.UPSTREAM_UNIMPLEMENTED: StatusRow(_C.UNIMPLEMENTED, Retry.SILENT),
    Reason.UPSTREAM_OVERLOADED: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_UNEXPECTED_STATUS: StatusRow(_C.INTERNAL, Retry.NEVER),
    Reason.UPSTREAM_UNEXPECTED_SERVER_STATUS: StatusRow(
        _C.UNAVAILABLE, Retry.LATER, "UPSTREAM_UNEXPECTED_STATUS"
    ),
    Reason.UPSTREAM_STREAM_ERROR: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_MALFORMED_RESPONSE: StatusRow(_C.INTERNAL, Retry.NEVER),
    Reason.UPSTREAM_TOO_LARGE: StatusRow(_C.INTERNAL, Retry.NEVER),
    Reason.UPSTREAM_RESET: StatusRow(_C.UNAVAILABLE, Retry.NEVER),
    Reason.UPSTREAM_TRUNCATED: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_REQUEST_TIMEOUT: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.UPSTREAM_GATEWAY_TIMEOUT: StatusRow(_C.DEADLINE_EXCEEDED, Retry.NEVER),
    Reason.FIRST_TOKEN_TIMEOUT: StatusRow(_C.DEADLINE_EXCEEDED, Retry.NEVER),
    Reason.STREAM_IDLE_TIMEOUT: StatusRow(_C.DEADLINE_EXCEEDED, Retry.NEVER),
    Reason.CALL_TIMEOUT: StatusRow(_C.DEADLINE_EXCEEDED, Retry.NEVER),
    Reason.OVERLOADED: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.DRAINING: StatusRow(_C.UNAVAILABLE, Retry.LATER),
    Reason.INTERNAL_ERROR: StatusRow(_C.INTERNAL, Retry.NEVER),
}

QUOTAS: Final[Mapping[Reason, str]] = {
    Reason.RATE_LIMITED: "the provider's rate limit",
    Reason.RATE_LIMITED_REQUESTS: "the provider's limit on requests",
    Reason.RATE_LIMITED_TOKENS: "the provider's limit on tokens",
    Reason.QUOTA_EXHAUSTED: "the quota of the account at the provider",
    Reason.CALLER_QUOTA: "this caller's quota at the service",
}

HELP: Final[Mapping[Reason, tuple[str, str]]] = {
    Reason.CALLER_KEY_REJECTED: ("Together's keys", "https://api.together.ai/settings/api-keys"),
    Reason.SPEND_LIMIT_REACHED: ("Together's billing settings", "https://api.together.ai/settings/billing"),
    Reason.RATE_LIMITED: ("Together's rate limits", "https://docs.together.ai/docs/rate-limits"),
    Reason.RATE_LIMITED_REQUESTS: ("Together's rate limits", "https://docs.together.ai/docs/rate-limits"),
    Reason.RATE_LIMITED_TOKENS: ("Together's rate limits", "https://docs.together.ai/docs/rate-limits"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcStatus:
    """What the boundary hands to gRPC."""

    code: grpc.StatusCode
    message: str
    trailers: Metadata


def status_of(
    error: ServiceError, call: Call, *, output_sent: bool, seconds_left: float, fraction: float
) -> GrpcStatus:
    """The status of a failed call.

    `output_sent` says whether the caller has received a message already, `seconds_left` what
    is left of its deadline, `fraction` is a random number from 0 to 1 for the jitter.
    """
    row = ROWS[error.reason]
    retryable = row.retry is Retry.LATER and not output_sent
    delay_s = retry_delay_s(error.retry_after_s, call.previous_attempts, fraction) if retryable else None
    text = sanitise(error.message)
    reason = row.reason or error.reason.value
    packed = _packed(row.code, text, _details(error, reason, call, output_sent=output_sent, delay_s=delay_s))
    return GrpcStatus(
        code=row.code,
        message=text,
        trailers=(
            *response_metadata(call),
            ("x-error-reason", reason),
            ("x-error-retryable", "true" if retryable else "false"),
            *_pushback(row.retry, delay_s, seconds_left),
            ("grpc-status-details-bin", packed),
        ),
    )


def _pushback(retry: Retry, delay_s: float | None, seconds_left: float) -> Metadata:
    if retry is Retry.SILENT:
        return ()
    fits = delay_s is not None and delay_s < seconds_left
    return (("grpc-retry-pushback-ms", str(round(delay_s * 1000)) if fits and delay_s is not None else "-1"),)


def _details(
    error: ServiceError, reason: str, call: Call, *, output_sent: bool, delay_s: float | None
) -> Iterable[message.Message]:
    """The details, most important first: what does not fit is left out from the end."""
    yield details.ErrorInfo(
        reason=reason, domain=DOMAIN, metadata=_metadata(error, call, output_sent=output_sent)
    )
    yield details.RequestInfo(request_id=call.id)
    if delay_s is not None:
        yield details.RetryInfo(retry_delay=_duration(delay_s))
    if error.reason in QUOTAS:
        # Which of its limits a tenant ran into is said by the message alone.
        ours = error.reason is Reason.CALLER_QUOTA and bool(call.tenant)
        violation = details.QuotaFailure.Violation(
            subject=f"tenant:{call.tenant}" if ours else _model(call),
            description=sanitise(error.message) if ours else QUOTAS[error.reason],
        )
        yield details.QuotaFailure(violations=[violation])
    if error.reason is Reason.SPEND_LIMIT_REACHED:
        unmet = details.PreconditionFailure.Violation(
            type="SPEND_LIMIT", subject="account", description="raise the spending limit at the provider"
        )
        yield details.PreconditionFailure(violations=[unmet])
    if error.reason in {Reason.MODEL_NOT_FOUND, Reason.MODEL_NOT_ALLOWED}:
        yield details.ResourceInfo(resource_type="model", resource_name=_model(call))
    if error.reason in HELP:
        description, url = HELP[error.reason]
        yield details.Help(links=[details.Help.Link(description=description, url=url)])
    if error.violations:
        yield details.BadRequest(
            field_violations=[
                details.BadRequest.FieldViolation(field=violation.field, description=violation.description)
                for violation in error.violations
            ]
        )


def _duration(seconds: float) -> duration_pb2.Duration:
    whole = int(seconds)
    return duration_pb2.Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def _metadata(error: ServiceError, call: Call, *, output_sent: bool) -> dict[str, str]:
    progress, upstream = call.progress, error.upstream
    offered = {
        "model": _model(call),
        "phase": progress.phase.value if progress.attempts else Phase.ADMITTED.value,
        "partialOutput": "true" if output_sent else "",
        "upstreamHttpStatus": str(upstream.http_status) if upstream and upstream.http_status else "",
        "upstreamErrorType": sanitise(upstream.error_type, characters_max=64) if upstream else "",
        "upstreamErrorCode": sanitise(upstream.error_code, characters_max=64) if upstream else "",
        "upstreamRequestId": sanitise(progress.upstream_request_id, characters_max=128),
        "attempts": str(progress.attempts) if progress.attempts else "",
        # What is known of the usage of an answer that broke off.
        "usageCompletionTokens": str(progress.output_pieces) if progress.output_pieces else "",
        "usageEstimated": "true" if progress.output_pieces else "",
    }
    return {key: value for key, value in offered.items() if value}


def _model(call: Call) -> str:
    return sanitise(call.progress.model)


def _packed(code: grpc.StatusCode, text: str, parts: Iterable[message.Message]) -> bytes:
    status = status_pb2.Status(code=code.value[0], message=text)
    for part in parts:
        _add_what_fits(status, part)
    return status.SerializeToString()


def _add_what_fits(status: status_pb2.Status, part: message.Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(part)
    while status.ByteSize() + packed.ByteSize() + 4 > STATUS_BYTES_MAX:
        if not (isinstance(part, details.BadRequest) and len(part.field_violations) > 1):
            return
        del part.field_violations[-1]
        packed.Pack(part)
    status.details.append(packed)
