"""From what went wrong to a gRPC status: the table, its details and its trailers.

Pure: a `ServiceError` and the facts of its call go in, a `Status` comes out. Trailers above
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

from togetherchat_server.calls.session import come_back_s, facts_of
from togetherchat_server.domain.call import Call, Phase
from togetherchat_server.domain.reasons import Kind, ServiceError, sanitise

DOMAIN: Final = "togetherchat"
STATUS_BYTES_MAX: Final = 4096

Metadata = tuple[tuple[str, str | bytes], ...]


class Retry(enum.Enum):
    """What a client's own retry policy is told."""

    SILENT = "the code is not one that clients retry: nothing is said"
    NEVER = "-1: a retry fails again, or may be billed twice"
    LATER = "a delay in milliseconds"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the error table. `reason` is the kind's own name unless it is given."""

    code: grpc.StatusCode
    retry: Retry
    reason: str = ""


_C = grpc.StatusCode

ROWS: Final[Mapping[Kind, Row]] = {
    Kind.INVALID_REQUEST: Row(_C.INVALID_ARGUMENT, Retry.SILENT),
    Kind.REQUEST_TOO_LARGE: Row(_C.INVALID_ARGUMENT, Retry.SILENT),
    Kind.CONTEXT_LENGTH_EXCEEDED: Row(_C.INVALID_ARGUMENT, Retry.SILENT),
    Kind.MODEL_NOT_FOUND: Row(_C.NOT_FOUND, Retry.SILENT),
    Kind.UPSTREAM_INVALID_REQUEST: Row(_C.INVALID_ARGUMENT, Retry.SILENT),
    Kind.MISSING_CREDENTIALS: Row(_C.UNAUTHENTICATED, Retry.SILENT),
    Kind.INVALID_CREDENTIALS: Row(_C.UNAUTHENTICATED, Retry.SILENT),
    Kind.CALLER_KEY_REJECTED: Row(_C.UNAUTHENTICATED, Retry.SILENT),
    Kind.MODEL_NOT_ALLOWED: Row(_C.PERMISSION_DENIED, Retry.SILENT),
    Kind.CALLER_QUOTA: Row(_C.RESOURCE_EXHAUSTED, Retry.LATER),
    Kind.CALLER_DEADLINE: Row(_C.DEADLINE_EXCEEDED, Retry.SILENT),
    Kind.CALLER_CANCELLED: Row(_C.CANCELLED, Retry.SILENT),
    Kind.CALLER_STALLED: Row(_C.CANCELLED, Retry.SILENT),
    Kind.SERVICE_KEY_REJECTED: Row(_C.UNAUTHENTICATED, Retry.SILENT),
    Kind.SPEND_LIMIT_REACHED: Row(_C.FAILED_PRECONDITION, Retry.NEVER),
    Kind.QUOTA_EXHAUSTED: Row(_C.RESOURCE_EXHAUSTED, Retry.NEVER),
    Kind.RATE_LIMITED: Row(_C.RESOURCE_EXHAUSTED, Retry.LATER),
    Kind.RATE_LIMITED_REQUESTS: Row(_C.RESOURCE_EXHAUSTED, Retry.LATER),
    Kind.RATE_LIMITED_TOKENS: Row(_C.RESOURCE_EXHAUSTED, Retry.LATER),
    Kind.UPSTREAM_PERMISSION_DENIED: Row(_C.PERMISSION_DENIED, Retry.SILENT),
    Kind.UPSTREAM_CONNECT_FAILED: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_DNS_FAILED: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_CONNECT_TIMEOUT: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_TLS_FAILED: Row(_C.UNAVAILABLE, Retry.NEVER),
    Kind.UPSTREAM_EDGE_BLOCKED: Row(_C.UNAVAILABLE, Retry.NEVER),
    Kind.UPSTREAM_EDGE_ERROR: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_EDGE_UNREACHABLE: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_EDGE_CERTIFICATE: Row(_C.UNAVAILABLE, Retry.NEVER, "UPSTREAM_EDGE_UNREACHABLE"),
    Kind.UPSTREAM_BAD_GATEWAY: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_ENDPOINT_NOT_FOUND: Row(_C.INTERNAL, Retry.NEVER),
    Kind.UPSTREAM_CONFLICT: Row(_C.ABORTED, Retry.SILENT),
    Kind.UPSTREAM_CLOSED: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_INTERNAL: Row(_C.INTERNAL, Retry.NEVER),
    Kind.UPSTREAM_UNIMPLEMENTED: Row(_C.UNIMPLEMENTED, Retry.SILENT),
    Kind.UPSTREAM_OVERLOADED: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_UNEXPECTED_STATUS: Row(_C.INTERNAL, Retry.NEVER),
    Kind.UPSTREAM_UNEXPECTED_SERVER_STATUS: Row(_C.UNAVAILABLE, Retry.LATER, "UPSTREAM_UNEXPECTED_STATUS"),
    Kind.UPSTREAM_STREAM_ERROR: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_MALFORMED_RESPONSE: Row(_C.INTERNAL, Retry.NEVER),
    Kind.UPSTREAM_TOO_LARGE: Row(_C.INTERNAL, Retry.NEVER),
    Kind.UPSTREAM_RESET: Row(_C.UNAVAILABLE, Retry.NEVER),
    Kind.UPSTREAM_TRUNCATED: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_REQUEST_TIMEOUT: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.UPSTREAM_GATEWAY_TIMEOUT: Row(_C.DEADLINE_EXCEEDED, Retry.NEVER),
    Kind.FIRST_TOKEN_TIMEOUT: Row(_C.DEADLINE_EXCEEDED, Retry.NEVER),
    Kind.STREAM_IDLE_TIMEOUT: Row(_C.DEADLINE_EXCEEDED, Retry.NEVER),
    Kind.CALL_TIMEOUT: Row(_C.DEADLINE_EXCEEDED, Retry.NEVER),
    Kind.OVERLOADED: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.DRAINING: Row(_C.UNAVAILABLE, Retry.LATER),
    Kind.INTERNAL_ERROR: Row(_C.INTERNAL, Retry.NEVER),
}

QUOTAS: Final[Mapping[Kind, str]] = {
    Kind.RATE_LIMITED: "the provider's rate limit",
    Kind.RATE_LIMITED_REQUESTS: "the provider's limit on requests",
    Kind.RATE_LIMITED_TOKENS: "the provider's limit on tokens",
    Kind.QUOTA_EXHAUSTED: "the quota of the account at the provider",
    Kind.CALLER_QUOTA: "this caller's quota at the service",
}

HELP: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.CALLER_KEY_REJECTED: ("Together's keys", "https://api.together.ai/settings/api-keys"),
    Kind.SPEND_LIMIT_REACHED: ("Together's billing settings", "https://api.together.ai/settings/billing"),
    Kind.RATE_LIMITED: ("Together's rate limits", "https://docs.together.ai/docs/rate-limits"),
    Kind.RATE_LIMITED_REQUESTS: ("Together's rate limits", "https://docs.together.ai/docs/rate-limits"),
    Kind.RATE_LIMITED_TOKENS: ("Together's rate limits", "https://docs.together.ai/docs/rate-limits"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the boundary hands to gRPC."""

    code: grpc.StatusCode
    message: str
    trailers: Metadata


def status_of(
    error: ServiceError, call: Call, *, output_sent: bool, seconds_left: float, fraction: float
) -> Status:
    """The status of a failed call.

    `output_sent` says whether the caller has received a message already, `seconds_left` what
    is left of its deadline, `fraction` is a random number from 0 to 1 for the jitter.
    """
    row = ROWS[error.kind]
    retryable = row.retry is Retry.LATER and not output_sent
    delay_s = come_back_s(error.retry_after_s, call.previous_attempts, fraction) if retryable else None
    text = sanitise(error.message)
    reason = row.reason or error.kind.value
    packed = _packed(row.code, text, _details(error, reason, call, output_sent=output_sent, delay_s=delay_s))
    return Status(
        code=row.code,
        message=text,
        trailers=(
            *facts_of(call),
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
    if error.kind in QUOTAS:
        # Which of its limits a tenant ran into is said by the message alone.
        ours = error.kind is Kind.CALLER_QUOTA and bool(call.tenant)
        violation = details.QuotaFailure.Violation(
            subject=f"tenant:{call.tenant}" if ours else _model(call),
            description=sanitise(error.message) if ours else QUOTAS[error.kind],
        )
        yield details.QuotaFailure(violations=[violation])
    if error.kind is Kind.SPEND_LIMIT_REACHED:
        unmet = details.PreconditionFailure.Violation(
            type="SPEND_LIMIT", subject="account", description="raise the spending limit at the provider"
        )
        yield details.PreconditionFailure(violations=[unmet])
    if error.kind in {Kind.MODEL_NOT_FOUND, Kind.MODEL_NOT_ALLOWED}:
        yield details.ResourceInfo(resource_type="model", resource_name=_model(call))
    if error.kind in HELP:
        description, url = HELP[error.kind]
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
