"""Maps a `ServiceError` to a gRPC status: the table, the details and the trailers.

Pure: a `ServiceError` and its `Call` go in, a `GrpcStatus` comes out. Trailers above 8 KiB make gRPC
replace the status with RESOURCE_EXHAUSTED at random, and one illegal character in a value replaces
it with INTERNAL (both measured on grpcio 1.85): so everything variable is bounded and checked here.

Clients obey `grpc-retry-pushback-ms` to the millisecond, so a thousand rejected clients would retry
at the same instant: the delay has jitter. With a delay beyond its deadline a caller
would only wait for the deadline: the pushback is then -1, and RetryInfo has the actual delay.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from togetherchat_server.calls.response_metadata import response_metadata, retry_delay_s
from togetherchat_server.domain.call import Call, Phase
from togetherchat_server.domain.reasons import Reason, ServiceError, ThrottleOutcome, sanitise

DOMAIN: Final = "togetherchat"
STATUS_BYTES_MAX: Final = 4096

Metadata = tuple[tuple[str, str | bytes], ...]


class Pushback(enum.Enum):
    """The instruction to the client's retry policy in `grpc-retry-pushback-ms`."""

    NONE = "no trailer: clients do not retry this code"
    NEVER = "-1: a retry fails again, or may be billed twice"
    DELAY = "a delay in milliseconds"


_C = grpc.StatusCode

CODES: Final[Mapping[Reason, grpc.StatusCode]] = {
    Reason.INVALID_REQUEST: _C.INVALID_ARGUMENT,
    Reason.REQUEST_TOO_LARGE: _C.INVALID_ARGUMENT,
    Reason.CONTEXT_LENGTH_EXCEEDED: _C.INVALID_ARGUMENT,
    Reason.MODEL_NOT_FOUND: _C.NOT_FOUND,
    Reason.UPSTREAM_INVALID_REQUEST: _C.INVALID_ARGUMENT,
    Reason.MISSING_CREDENTIALS: _C.UNAUTHENTICATED,
    Reason.INVALID_CREDENTIALS: _C.UNAUTHENTICATED,
    Reason.CALLER_KEY_REJECTED: _C.UNAUTHENTICATED,
    Reason.MODEL_NOT_ALLOWED: _C.PERMISSION_DENIED,
    Reason.CALLER_NOT_PERMITTED: _C.PERMISSION_DENIED,
    Reason.CALLER_QUOTA: _C.RESOURCE_EXHAUSTED,
    Reason.CALLER_DEADLINE: _C.DEADLINE_EXCEEDED,
    Reason.CALLER_CANCELLED: _C.CANCELLED,
    Reason.CALLER_STALLED: _C.CANCELLED,
    Reason.SERVICE_KEY_REJECTED: _C.UNAUTHENTICATED,
    Reason.SPEND_LIMIT_REACHED: _C.FAILED_PRECONDITION,
    Reason.QUOTA_EXHAUSTED: _C.RESOURCE_EXHAUSTED,
    Reason.RATE_LIMITED: _C.RESOURCE_EXHAUSTED,
    Reason.RATE_LIMITED_REQUESTS: _C.RESOURCE_EXHAUSTED,
    Reason.RATE_LIMITED_TOKENS: _C.RESOURCE_EXHAUSTED,
    Reason.UPSTREAM_PERMISSION_DENIED: _C.PERMISSION_DENIED,
    Reason.UPSTREAM_CONNECT_FAILED: _C.UNAVAILABLE,
    Reason.UPSTREAM_DNS_FAILED: _C.UNAVAILABLE,
    Reason.UPSTREAM_CONNECT_TIMEOUT: _C.UNAVAILABLE,
    Reason.UPSTREAM_TLS_FAILED: _C.UNAVAILABLE,
    Reason.UPSTREAM_EDGE_BLOCKED: _C.UNAVAILABLE,
    Reason.UPSTREAM_EDGE_ERROR: _C.UNAVAILABLE,
    Reason.UPSTREAM_EDGE_UNREACHABLE: _C.UNAVAILABLE,
    Reason.UPSTREAM_BAD_GATEWAY: _C.UNAVAILABLE,
    Reason.UPSTREAM_ENDPOINT_NOT_FOUND: _C.INTERNAL,
    Reason.UPSTREAM_CONFLICT: _C.ABORTED,
    Reason.UPSTREAM_CLOSED: _C.UNAVAILABLE,
    Reason.UPSTREAM_INTERNAL: _C.INTERNAL,
    Reason.UPSTREAM_UNIMPLEMENTED: _C.UNIMPLEMENTED,
    Reason.UPSTREAM_OVERLOADED: _C.UNAVAILABLE,
    Reason.UPSTREAM_ENDPOINT_NOT_RUNNING: _C.UNAVAILABLE,
    Reason.UPSTREAM_UNEXPECTED_STATUS: _C.INTERNAL,
    Reason.UPSTREAM_STREAM_ERROR: _C.UNAVAILABLE,
    Reason.UPSTREAM_MALFORMED_RESPONSE: _C.INTERNAL,
    Reason.UPSTREAM_TOO_LARGE: _C.INTERNAL,
    Reason.UPSTREAM_RESET: _C.UNAVAILABLE,
    Reason.UPSTREAM_TRUNCATED: _C.UNAVAILABLE,
    Reason.UPSTREAM_REQUEST_TIMEOUT: _C.UNAVAILABLE,
    Reason.UPSTREAM_GATEWAY_TIMEOUT: _C.DEADLINE_EXCEEDED,
    Reason.FIRST_TOKEN_TIMEOUT: _C.DEADLINE_EXCEEDED,
    Reason.STREAM_IDLE_TIMEOUT: _C.DEADLINE_EXCEEDED,
    Reason.CALL_TIMEOUT: _C.DEADLINE_EXCEEDED,
    Reason.AUTHENTICATION_UNAVAILABLE: _C.UNAVAILABLE,
    Reason.USAGE_UNAVAILABLE: _C.UNAVAILABLE,
    Reason.USAGE_NOT_RECORDED: _C.UNIMPLEMENTED,
    Reason.OVERLOADED: _C.UNAVAILABLE,
    Reason.DRAINING: _C.UNAVAILABLE,
    Reason.INTERNAL_ERROR: _C.INTERNAL,
}

RETRIED_CODES: Final = frozenset({_C.UNAVAILABLE, _C.RESOURCE_EXHAUSTED})
"""The codes of retryable failures: the contract's service config makes clients retry them."""
PUSHBACK_CODES: Final = RETRIED_CODES | {_C.DEADLINE_EXCEEDED, _C.FAILED_PRECONDITION, _C.INTERNAL}
"""Those, and codes that a caller's own retry policy may contain."""

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
    **dict.fromkeys(
        (reason for reason in Reason if reason.row.throttle is ThrottleOutcome.HELD),
        ("Together's rate limits", "https://docs.together.ai/docs/rate-limits"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcStatus:
    """The status that the handler passes to gRPC."""

    code: grpc.StatusCode
    message: str
    trailers: Metadata


def status_of(
    error: ServiceError, call: Call, *, output_sent: bool, seconds_left: float, fraction: float
) -> GrpcStatus:
    """Return the status of a failed call.

    `output_sent` is whether the caller has already received a message, `seconds_left` the time until
    its deadline, and `fraction` a random number from 0 to 1 for the jitter.
    """
    code = code_of(error)
    retryable = error.retryable and not output_sent
    delay_s = retry_delay_s(error.retry_after_s, call.previous_attempts, fraction) if retryable else None
    # A client's retry policy must not repeat such a failure (the pushback is -1), but a person may.
    passes_after_s = None if retryable or output_sent else error.reason.row.passes_after_s
    info_s = delay_s if retryable else passes_after_s
    text = sanitise(error.message)
    packed = _packed(code, text, _details(error, call, output_sent=output_sent, info_s=info_s))
    return GrpcStatus(
        code=code,
        message=text,
        trailers=(
            *response_metadata(call),
            ("x-error-reason", error.reason.value),
            ("x-error-retryable", "true" if retryable else "false"),
            *_pushback(pushback_of(error), delay_s, seconds_left),
            ("grpc-status-details-bin", packed),
        ),
    )


def code_of(error: ServiceError) -> grpc.StatusCode:
    """Return the code of a failure. A retryable failure has a code that clients retry."""
    code = CODES[error.reason]
    return _C.UNAVAILABLE if error.retryable and code not in RETRIED_CODES else code


def pushback_of(error: ServiceError) -> Pushback:
    """Return the instruction to clients. A caller whose own deadline has passed needs none."""
    if error.retryable:
        return Pushback.DELAY
    if error.reason is Reason.CALLER_DEADLINE or CODES[error.reason] not in PUSHBACK_CODES:
        return Pushback.NONE
    return Pushback.NEVER


def _pushback(pushback: Pushback, delay_s: float | None, seconds_left: float) -> Metadata:
    if pushback is Pushback.NONE:
        return ()
    fits = delay_s is not None and delay_s < seconds_left
    return (("grpc-retry-pushback-ms", str(round(delay_s * 1000)) if fits and delay_s is not None else "-1"),)


def _details(
    error: ServiceError, call: Call, *, output_sent: bool, info_s: float | None
) -> Iterable[message.Message]:
    """Yield the details, the most important first: those that do not fit are dropped from the end.

    `info_s` is the delay in RetryInfo; None for a failure without one.
    """
    yield details.ErrorInfo(
        reason=error.reason.value, domain=DOMAIN, metadata=_metadata(error, call, output_sent=output_sent)
    )
    yield details.RequestInfo(request_id=call.id)
    if info_s is not None:
        yield details.RetryInfo(retry_delay=_duration(info_s))
    if error.reason in QUOTAS:
        # Only the message names the limit that a tenant has exceeded.
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
    entries = {
        "model": _model(call),
        "phase": progress.phase.value if progress.attempts else Phase.ADMITTED.value,
        "partialOutput": "true" if output_sent else "",
        "upstreamHttpStatus": str(upstream.http_status) if upstream and upstream.http_status else "",
        "upstreamErrorType": sanitise(upstream.error_type, characters_max=64) if upstream else "",
        "upstreamErrorCode": sanitise(upstream.error_code, characters_max=64) if upstream else "",
        "upstreamRequestId": sanitise(progress.upstream_request_id, characters_max=128),
        "attempts": str(progress.attempts) if progress.attempts else "",
        # The usage known so far of a completion that broke off.
        "usageCompletionTokens": str(progress.output_deltas) if progress.output_deltas else "",
        "usageEstimated": "true" if progress.output_deltas else "",
    }
    return {key: value for key, value in entries.items() if value}


def _model(call: Call) -> str:
    return sanitise(call.progress.model)


def _packed(code: grpc.StatusCode, text: str, parts: Iterable[message.Message]) -> bytes:
    status = status_pb2.Status(code=code.value[0], message=text)
    for part in parts:
        _add_if_it_fits(status, part)
    return status.SerializeToString()


def _add_if_it_fits(status: status_pb2.Status, part: message.Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(part)
    while status.ByteSize() + packed.ByteSize() + 4 > STATUS_BYTES_MAX:
        if not (isinstance(part, details.BadRequest) and len(part.field_violations) > 1):
            return
        del part.field_violations[-1]
        packed.Pack(part)
    status.details.append(packed)
