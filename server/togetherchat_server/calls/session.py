"""Opens and closes calls, the same way for every frontend.

Owns a call's id, deadline, upstream credential and call record, and what every response of a call
has in common: metadata, messages and retry delay. Knows no gRPC and no HTTP: a frontend passes an
`IncomingCall` in, and at the end an `Outcome` with the status that it sent.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.domain.trace_context import CallTrace, SpanContext
from togetherchat_server.telemetry.call_record import CallRecord, Sink, Spans
from togetherchat_server.tenants.authenticator import ANONYMOUS, MISSING, Authenticator, Identity

INTERNAL_ERROR_MESSAGE: Final = "internal error; the service's log has the details under this request id"
DRAINING_MESSAGE: Final = "the service stopped before the response was complete"
QUEUE_TIMEOUT_MESSAGE: Final = "no capacity became free within the queue timeout; retry later"
WRITE_TIMEOUT_MESSAGE: Final = "the caller read nothing within the write timeout"
DEADLINE_MESSAGES: Final[Mapping[Reason, str]] = {
    Reason.CALLER_DEADLINE: "the caller's deadline passed before the response was complete",
    Reason.CALL_TIMEOUT: "the call took longer than the service allows",
}

MARGIN_MIN_S: Final = 0.1
MARGIN_RATIO: Final = 0.01
MARGIN_RATIO_MAX: Final = 0.2

METADATA_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
"""The values that both an HTTP header and a gRPC trailer can carry."""
BACK_OFF_FIRST_S: Final = 0.25
BACK_OFF_MAX_S: Final = 8.0
DELAY_MAX_S: Final = 10 * 366 * 86_400.0
"""A provider may send any number of seconds; a protobuf Duration ends at ten thousand years."""

UpstreamKeyMode = Literal["server", "caller", "caller-then-server"]
ResponseMetadata = tuple[tuple[str, str], ...]

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """The data of a call before it is opened. Strings come from the caller and are not validated."""

    protocol: str
    method: str
    request_id: str = ""
    authorization: str = ""
    together_key: str = ""
    """`x-together-api-key`: the caller's provider key, if `authorization` holds a key of this service."""
    traceparent: str = ""
    tracestate: str = ""
    previous_attempts: str = ""
    seconds_left: float | None = None
    """Time until the caller's deadline; None if the caller set none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended. `code` is the status in the frontend's protocol."""

    code: str
    reason: Reason | None
    messages_sent: int = 0
    usage: chat.Usage | None = None


@final
class Sessions:
    """Opens calls and closes them."""

    def __init__(  # noqa: PLR0913  the parts of a call, and the receivers of its record
        self,
        *,
        key_mode: UpstreamKeyMode,
        server_key: Callable[[], Secret | None],
        call_timeout_s: float,
        clock: Callable[[], float],
        sinks: Sequence[Sink] = (),
        authenticator: Authenticator | None = None,
        spans: Spans | None = None,
    ) -> None:
        """With an `authenticator`, every call must carry a key of this service."""
        self._key_mode = key_mode
        self._server_key = server_key
        self._call_timeout_s = call_timeout_s
        self._clock = clock
        self._sinks = tuple(sinks)
        self._authenticator = authenticator
        self._spans = spans

    def check(self, incoming: IncomingCall) -> str:
        """Authenticate a caller by its metadata alone, before its message is read.

        Returns what identifies the caller to admission control: its tenant, or the fingerprint of the
        provider key that it brought; empty if there is neither.

        Raises:
            ServiceError: MISSING_CREDENTIALS or INVALID_CREDENTIALS.
        """
        identity = self._identity(incoming)
        key, caller_brought_key = self._upstream_key(incoming)
        if identity.tenant:
            return identity.tenant
        return key.fingerprint() if key is not None and caller_brought_key else ""

    def open(self, incoming: IncomingCall) -> Call:
        """Return the call, with its deadline set.

        Raises:
            ServiceError: as `check`.
        """
        now_s = self._clock()
        identity = self._identity(incoming)
        key, caller_brought_key = self._upstream_key(incoming)
        left_s, reason = self._call_timeout_s, Reason.CALL_TIMEOUT
        if incoming.seconds_left is not None:
            with_margin_s = incoming.seconds_left - deadline_margin_s(incoming.seconds_left)
            if with_margin_s <= left_s:
                left_s, reason = with_margin_s, Reason.CALLER_DEADLINE
        upstream_context, trace = self._begin_trace(incoming)
        return Call(
            id=request_id_or_new(incoming.request_id),
            method=incoming.method,
            received_s=now_s,
            deadline_s=now_s + left_s,
            deadline_reason=reason,
            upstream_key=key,
            caller_brought_key=caller_brought_key,
            previous_attempts=_small_number(incoming.previous_attempts),
            tenant=identity.tenant,
            key_id=identity.key_id,
            traceparent=upstream_context.traceparent if upstream_context else "",
            tracestate=upstream_context.state if upstream_context else "",
            trace=trace,
        )

    def rejected(self, incoming: IncomingCall) -> Call:
        """Return the call of a caller that is rejected before anything is read. It has an id and no key."""
        now_s, identity = self._clock(), self._identity_or_anonymous(incoming)
        return Call(
            id=request_id_or_new(incoming.request_id),
            method=incoming.method,
            received_s=now_s,
            deadline_s=now_s + self._call_timeout_s,
            deadline_reason=Reason.CALL_TIMEOUT,
            upstream_key=None,
            previous_attempts=_small_number(incoming.previous_attempts),
            tenant=identity.tenant,
            key_id=identity.key_id,
            trace=self._begin_trace(incoming)[1],
        )

    def close(self, call: Call, protocol: str, outcome: Outcome) -> None:
        """Write the call record. Called exactly once for every call that was opened or rejected."""
        record = call_record(call, protocol, outcome, now_s=self._clock())
        for sink in self._sinks:
            sink(record)
        if self._spans is not None and call.trace is not None:
            self._spans.end(call, record)

    def seconds_left(self, call: Call) -> float:
        return call.seconds_left(self._clock())

    def _identity(self, incoming: IncomingCall) -> Identity:
        """Return the caller's identity; ANONYMOUS if callers need no key of this service."""
        if self._authenticator is None:
            return ANONYMOUS
        if not incoming.authorization:
            raise ServiceError(Reason.MISSING_CREDENTIALS, MISSING)
        return self._authenticator.identity_of(_bearer_key(incoming.authorization))

    def _identity_or_anonymous(self, incoming: IncomingCall) -> Identity:
        try:
            return self._identity(incoming)
        except ServiceError:
            return ANONYMOUS

    def _begin_trace(self, incoming: IncomingCall) -> tuple[SpanContext | None, CallTrace | None]:
        """Return the trace context for the provider and, if the call is traced, the data of its spans."""
        parent = (
            SpanContext.parse(incoming.traceparent, incoming.tracestate) if incoming.traceparent else None
        )
        return (parent, None) if self._spans is None else self._spans.begin(parent)

    def _upstream_key(self, incoming: IncomingCall) -> tuple[Secret | None, bool]:
        """Return the key to send to the provider, and whether the caller brought it."""
        offered = incoming.authorization if self._authenticator is None else incoming.together_key
        if self._key_mode == "server" or (self._key_mode == "caller-then-server" and not offered):
            return self._server_key(), False
        if not offered:
            header = (
                "`authorization: Bearer <key>`"
                if self._authenticator is None
                else "`x-together-api-key: <key>`"
            )
            raise ServiceError(Reason.MISSING_CREDENTIALS, f"send your Together key as {header} metadata")
        if self._authenticator is None:
            return _secret(_bearer_key(offered), "authorization"), True
        return _secret(offered, "x-together-api-key"), True


def deadline_margin_s(seconds_left: float) -> float:
    """Return how long before the caller's deadline the service ends the call.

    The status, which names the reason, must arrive before the caller's own timer fires. `grpc-timeout`
    is rounded up on its way by up to 1%, so the margin grows with the time left. The margin never exceeds a
    fifth of a short deadline.
    """
    return min(max(MARGIN_MIN_S, MARGIN_RATIO * seconds_left), MARGIN_RATIO_MAX * max(seconds_left, 0.0))


def request_id_or_new(offered: str) -> str:
    return offered if _REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)


def response_metadata(call: Call) -> ResponseMetadata:
    """Return what every response of a call carries, failed ones too. Names are in lower case."""
    progress = call.progress
    pairs = (
        ("x-request-id", call.id),
        ("x-upstream", progress.upstream),
        ("x-upstream-request-id", progress.upstream_request_id),
        *progress.rate_limits,
    )
    return tuple((name, value) for name, value in pairs if METADATA_VALUE.fullmatch(value))


def retry_delay_s(requested_s: float | None, previous_attempts: int, fraction: float) -> float:
    """Return after how many seconds a rejected caller may retry.

    Clients obey the delay to the millisecond, so a thousand of them would retry at the same instant.
    The delay is therefore spread by `fraction`, a random number from 0 to 1. `requested_s` is the delay
    that the provider or one of our limits requires; None if there is none.
    """
    if requested_s is not None:
        return min(requested_s * (1 + 0.2 * fraction), DELAY_MAX_S)
    return min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2 ** min(previous_attempts, 10)) * (0.5 + 0.5 * fraction)


def call_record(call: Call, protocol: str, outcome: Outcome, *, now_s: float) -> CallRecord:
    """Return the record of a finished call. A completion that broke off counts the deltas received."""
    progress, usage = call.progress, outcome.usage
    deltas = progress.output_deltas or None
    first_s = progress.first_event_s
    return CallRecord(
        id=call.id,
        protocol=protocol,
        method=call.method,
        code=outcome.code,
        reason=outcome.reason.value if outcome.reason else "",
        phase=progress.phase.value,
        model=progress.model,
        upstream=progress.upstream,
        upstream_request_id=progress.upstream_request_id,
        queued_s=progress.queued_s,
        attempts=progress.attempts,
        previous_attempts=call.previous_attempts,
        duration_s=now_s - call.received_s,
        first_token_s=None if first_s is None else first_s - call.received_s,
        messages_sent=outcome.messages_sent,
        prompt_tokens=usage.prompt_tokens if usage and not usage.estimated else None,
        completion_tokens=usage.completion_tokens if usage else deltas,
        usage_estimated=usage.estimated if usage else deltas is not None,
        cost_nano_usd=usage.cost_nano_usd if usage and usage.HasField("cost_nano_usd") else None,
        model_requested=progress.model_requested if progress.model_requested != progress.model else "",
        rate_limits=progress.rate_limits,
        tenant=call.tenant,
        key_id=call.key_id,
        caller_key=call.caller_brought_key,
        trace=call.trace.trace_id if call.trace else "",
    )


def _bearer_key(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise ServiceError(Reason.INVALID_CREDENTIALS, "`authorization` must be `Bearer <key>`")
    return key.strip()


def _secret(key: str, header: str) -> Secret:
    try:
        return Secret(key)
    except ValueError as exc:
        raise ServiceError(Reason.INVALID_CREDENTIALS, f"`{header}`: {exc}") from None


def _small_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
