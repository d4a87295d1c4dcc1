"""What every front tells its callers: in which words, when to come back, and what it knows of the call.

Pure. Knows no status and no header of any protocol: a front puts these into its own.

MERGED: The beginning and the end of a call, the same for every front.

Owns what a call is made of (its id, its deadline, the key that pays) and what is recorded
when it has ended. Knows no gRPC and no HTTP: a front hands in an `IncomingCall` and, at the end,
the word that it answered with.
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
from togetherchat_server.tenants.authenticator import MISSING, NOBODY, Authenticator, Identity

INTERNAL_ERROR_MESSAGE: Final = "something went wrong inside the service"
DRAINING_MESSAGE: Final = "the service was stopped before the answer was complete"
QUEUE_TIMEOUT_MESSAGE: Final = "no place became free in time"
WRITE_TIMEOUT_MESSAGE: Final = "the caller read nothing for too long"
DEADLINE_MESSAGES: Final[Mapping[Reason, str]] = {
    Reason.CALLER_DEADLINE: "the caller's deadline passed before the answer was complete",
    Reason.CALL_TIMEOUT: "the call took longer than the service allows",
}

# What a header and a gRPC trailer may carry alike.
METADATA_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
BACK_OFF_FIRST_S: Final = 0.25
BACK_OFF_MAX_S: Final = 8.0
DELAY_MAX_S: Final = 10 * 366 * 86_400.0
"""A provider may ask for any number of seconds; a Duration ends at ten thousand years."""

ResponseMetadata = tuple[tuple[str, str], ...]


def response_metadata(call: Call) -> ResponseMetadata:
    """What every answer carries, a failed one too, under lower-case names."""
    progress = call.progress
    offered = (
        ("x-request-id", call.id),
        ("x-upstream", progress.upstream),
        ("x-upstream-request-id", progress.upstream_request_id),
        *progress.rate_limits,
    )
    return tuple((name, value) for name, value in offered if METADATA_VALUE.fullmatch(value))


def retry_delay_s(asked_s: float | None, previous_attempts: int, fraction: float) -> float:
    """After how many seconds a refused caller may try again.

    Clients obey it to the millisecond, which would send a thousand of them back in the same
    instant: so it is spread by `fraction`, a random number from 0 to 1. `asked_s` is what the
    provider or a limit of ours asked for, None where nobody did.
    """
    if asked_s is not None:
        return min(asked_s * (1 + 0.2 * fraction), DELAY_MAX_S)
    return min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2 ** min(previous_attempts, 10)) * (0.5 + 0.5 * fraction)


MARGIN_LEAST_S: Final = 0.1
MARGIN_SHARE: Final = 0.01
MARGIN_SHARE_MAX: Final = 0.2

UpstreamKeyMode = Literal["server", "caller", "caller-then-server"]

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """What a front knows of a call as it comes in. Strings are the caller's own, unchecked."""

    protocol: str
    method: str
    request_id: str = ""
    authorization: str = ""
    together_key: str = ""
    """`x-together-api-key`: the caller's own key for the provider, where `authorization` is a key of ours."""
    traceparent: str = ""
    tracestate: str = ""
    previous_attempts: str = ""
    seconds_left: float | None = None
    """What is left of the caller's deadline; None: it set none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended."""

    code: str
    reason: Reason | None
    messages_sent: int = 0
    usage: chat.Usage | None = None


@final
class Sessions:
    """Opens calls and closes them."""

    def __init__(  # noqa: PLR0913  what a call is made of, and who hears of its end
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
        """With an `authenticator` every call needs a key of this service."""
        self._key_mode = key_mode
        self._server_key = server_key
        self._total_s = call_timeout_s
        self._clock = clock
        self._sinks = tuple(sinks)
        self._authenticator = authenticator
        self._spans = spans

    def check(self, incoming: IncomingCall) -> str:
        """Refuse a caller by its metadata alone, before its message is read.

        Returns what tells it from other callers, empty where nothing does: its tenant, where
        callers have keys of this service.

        Raises:
            ServiceError: MISSING_CREDENTIALS or INVALID_CREDENTIALS.
        """
        caller = self._identity(incoming)
        key, caller_brought_key = self._key(incoming)
        if caller.tenant:
            return caller.tenant
        return key.fingerprint() if key is not None and caller_brought_key else ""

    def open(self, incoming: IncomingCall) -> Call:
        """The call, its deadline running.

        Raises:
            ServiceError: as `check`.
        """
        now_s = self._clock()
        caller = self._identity(incoming)
        key, caller_brought_key = self._key(incoming)
        left_s, reason = self._total_s, Reason.CALL_TIMEOUT
        if incoming.seconds_left is not None:
            with_margin_s = incoming.seconds_left - deadline_margin_s(incoming.seconds_left)
            if with_margin_s <= left_s:
                left_s, reason = with_margin_s, Reason.CALLER_DEADLINE
        told, trace = self._traced(incoming)
        return Call(
            id=request_id_or_new(incoming.request_id),
            method=incoming.method,
            received_s=now_s,
            deadline_s=now_s + left_s,
            deadline_reason=reason,
            upstream_key=key,
            caller_brought_key=caller_brought_key,
            previous_attempts=_small_number(incoming.previous_attempts),
            tenant=caller.tenant,
            key_id=caller.key_id,
            traceparent=told.traceparent if told else "",
            tracestate=told.state if told else "",
            trace=trace,
        )

    def refused(self, incoming: IncomingCall) -> Call:
        """The call of a caller who was refused before anything was read: an id to answer under."""
        now_s, caller = self._clock(), self._identity_if_known(incoming)
        return Call(
            id=request_id_or_new(incoming.request_id),
            method=incoming.method,
            received_s=now_s,
            deadline_s=now_s + self._total_s,
            deadline_reason=Reason.CALL_TIMEOUT,
            upstream_key=None,
            previous_attempts=_small_number(incoming.previous_attempts),
            tenant=caller.tenant,
            key_id=caller.key_id,
            trace=self._traced(incoming)[1],
        )

    def close(self, call: Call, protocol: str, ending: Outcome) -> None:
        """Record how it ended. Called exactly once for every call that was opened or refused."""
        record = call_record(call, protocol, ending, now_s=self._clock())
        for sink in self._sinks:
            sink(record)
        if self._spans is not None and call.trace is not None:
            self._spans.end(call, record)

    def seconds_left(self, call: Call) -> float:
        return call.seconds_left(self._clock())

    def _identity(self, incoming: IncomingCall) -> Identity:
        """Who calls; nobody where callers need no key of this service."""
        if self._authenticator is None:
            return NOBODY
        if not incoming.authorization:
            raise ServiceError(Reason.MISSING_CREDENTIALS, MISSING)
        return self._authenticator.identity_of(_after_bearer(incoming.authorization))

    def _identity_if_known(self, incoming: IncomingCall) -> Identity:
        try:
            return self._identity(incoming)
        except ServiceError:
            return NOBODY

    def _traced(self, incoming: IncomingCall) -> tuple[SpanContext | None, CallTrace | None]:
        """What the provider is told of the trace, and where the call is traced, its own place in it."""
        parent = SpanContext.of(incoming.traceparent, incoming.tracestate) if incoming.traceparent else None
        return (parent, None) if self._spans is None else self._spans.begin(parent)

    def _key(self, incoming: IncomingCall) -> tuple[Secret | None, bool]:
        """The key to ask the provider with, and whether the caller brought it."""
        offered = incoming.authorization if self._authenticator is None else incoming.together_key
        if self._key_mode == "server" or (self._key_mode == "caller-then-server" and not offered):
            return self._server_key(), False
        if not offered:
            place = (
                "`authorization: Bearer <key>`"
                if self._authenticator is None
                else "`x-together-api-key: <key>`"
            )
            raise ServiceError(Reason.MISSING_CREDENTIALS, f"send your Together key as {place} metadata")
        if self._authenticator is None:
            return _secret(_after_bearer(offered), "authorization"), True
        return _secret(offered, "x-together-api-key"), True


def deadline_margin_s(seconds_left: float) -> float:
    """How long before the caller's deadline this service answers, so that its status, which says
    why, comes before the caller's own timer. `grpc-timeout` is rounded up on its way, by up to
    one part in a hundred: hence a share, and never more than a fifth of a short deadline.
    """
    return min(max(MARGIN_LEAST_S, MARGIN_SHARE * seconds_left), MARGIN_SHARE_MAX * max(seconds_left, 0.0))


def request_id_or_new(offered: str) -> str:
    return offered if _REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)


def call_record(call: Call, protocol: str, ending: Outcome, *, now_s: float) -> CallRecord:
    """The record of an ended call. An answer that broke off counts the pieces that had come."""
    progress, usage = call.progress, ending.usage
    pieces = progress.output_pieces or None
    first_s = progress.first_event_s
    return CallRecord(
        id=call.id,
        protocol=protocol,
        method=call.method,
        code=ending.code,
        reason=ending.reason.value if ending.reason else "",
        phase=progress.phase.value,
        model=progress.model,
        upstream=progress.upstream,
        upstream_request_id=progress.upstream_request_id,
        queued_s=progress.queued_s,
        attempts=progress.attempts,
        previous_attempts=call.previous_attempts,
        duration_s=now_s - call.received_s,
        first_token_s=None if first_s is None else first_s - call.received_s,
        messages_sent=ending.messages_sent,
        prompt_tokens=usage.prompt_tokens if usage and not usage.estimated else None,
        completion_tokens=usage.completion_tokens if usage else pieces,
        usage_estimated=usage.estimated if usage else pieces is not None,
        cost_nano_usd=usage.cost_nano_usd if usage and usage.HasField("cost_nano_usd") else None,
        model_asked=progress.model_asked if progress.model_asked != progress.model else "",
        rate_limits=progress.rate_limits,
        tenant=call.tenant,
        key_id=call.key_id,
        caller_key=call.caller_brought_key,
        trace=call.trace.trace_id if call.trace else "",
    )


def _after_bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise ServiceError(Reason.INVALID_CREDENTIALS, "`authorization` must be `Bearer <key>`")
    return key.strip()


def _secret(key: str, place: str) -> Secret:
    try:
        return Secret(key)
    except ValueError as exc:
        raise ServiceError(Reason.INVALID_CREDENTIALS, f"`{place}`: {exc}") from None


def _small_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
