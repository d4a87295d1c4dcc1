"""The record of a finished call: one frozen object that every sink receives.

A record holds no text of a caller and no key, so a sink may write all of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.domain.call import Billed, Call
from togetherchat_server.domain.reasons import REJECTS_CREDENTIAL, Reason
from togetherchat_server.domain.trace_context import CallTrace, SpanContext


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One finished call. Durations are seconds; a step that did not happen is None."""

    id: str
    protocol: str
    method: str
    code: str
    """The status in the caller's protocol: `OK`, or for example `UNAVAILABLE`."""
    reason: str
    """The reason of the failure; empty for a success."""
    detail: str = ""
    """Why a credential was rejected; empty otherwise."""
    phase: str
    model: str
    upstream: str
    upstream_request_id: str
    attempts: int
    previous_attempts: int
    queued_s: float
    duration_s: float
    first_token_s: float | None
    messages_sent: int
    prompt_tokens: int | None
    completion_tokens: int | None
    usage_estimated: bool
    cost_nano_usd: int | None
    cached_tokens: int | None = None
    """Prompt tokens that the provider read from its cache; None if it does not count them."""
    deltas: int | None = None
    """Deltas of the last attempt's stream; None if it had none. Adjacent ones may share a message."""
    model_requested: str = ""
    """The model as the caller named it, if it differs from `model`: an alias, or replaced by a fallback."""
    rate_limits: tuple[tuple[str, str], ...] = ()
    """The provider's rate-limit headers of the last attempt."""
    tenant: str = ""
    """The tenant of the caller's key, where callers have keys of this service."""
    key_id: str = ""
    """The id of that key, which is not secret; of a rejected key too."""
    subject: str = ""
    """The subject of a caller's JWT or certificate, instead of a key id."""
    client_address: str = ""
    """Where the call came from: the peer's address, or what a trusted proxy reported."""
    caller_key: bool = False
    """Whether the request to the provider carried a key that the caller brought."""
    trace: str = ""
    """The id of the trace with the call's spans; empty if the call is not traced."""
    record_id: str = ""
    """Identifies the record, unlike `id`, which a caller may choose."""
    received_us: int = 0
    """When the call arrived: microseconds since 1970, UTC."""
    user: str = ""
    """The end user that the caller named."""
    metered: bool = True
    """Whether the call is part of its tenant's usage. Calls about usage and quotas are not: a caller that
    polls a report would otherwise change it, and see its own calls at the top.
    """
    billed: Billed = field(default_factory=Billed)
    """What the provider bills for all attempts of the call. It does not change any more."""


Sink = Callable[[CallRecord], None]


class Spans(Protocol):
    """Makes the spans of calls."""

    def begin(self, parent: SpanContext | None) -> tuple[SpanContext, CallTrace | None]:
        """Decide whether a call is traced.

        Returns the context to send to the provider, and the object that records its attempts if it is traced.
        """
        ...

    def end(self, call: Call, record: CallRecord) -> None:
        """Make the spans of a traced call. Never waits."""
        ...


def call_record(  # noqa: PLR0913  the parts of a record, all by keyword
    call: Call,
    *,
    protocol: str,
    code: str,
    reason: Reason | None,
    messages_sent: int,
    usage: chat.Usage | None,
    now_s: float,
    detail: str = "",
    metered: bool = True,
) -> CallRecord:
    """Return the record of a finished call. A completion that broke off counts the deltas received.

    `detail` is the message of the error, which the record has only if a credential was rejected.
    """
    progress = call.progress
    deltas = progress.output_deltas or None
    first_s = progress.first_event_s
    return CallRecord(
        id=call.id,
        protocol=protocol,
        method=call.method,
        code=code,
        reason=reason.value if reason else "",
        detail=detail if reason in REJECTS_CREDENTIAL else "",
        phase=progress.phase.value,
        model=progress.model,
        upstream=progress.upstream,
        upstream_request_id=progress.upstream_request_id,
        queued_s=progress.queued_s,
        attempts=progress.attempts,
        previous_attempts=call.previous_attempts,
        duration_s=now_s - call.received_s,
        first_token_s=None if first_s is None else first_s - call.received_s,
        messages_sent=messages_sent,
        deltas=deltas,
        prompt_tokens=usage.prompt_tokens if usage and not usage.estimated else None,
        cached_tokens=usage.cached_tokens if usage and usage.HasField("cached_tokens") else None,
        completion_tokens=usage.completion_tokens if usage else deltas,
        usage_estimated=usage.estimated if usage else deltas is not None,
        cost_nano_usd=usage.cost_nano_usd if usage and usage.HasField("cost_nano_usd") else None,
        model_requested=progress.model_requested if progress.model_requested != progress.model else "",
        rate_limits=progress.rate_limits,
        tenant=call.tenant,
        key_id=call.key_id,
        subject=call.subject,
        client_address=call.client_address,
        caller_key=call.caller_brought_key,
        trace=call.trace.trace_id if call.trace else "",
        record_id=call.record_id,
        received_us=call.received_us,
        user=call.user,
        metered=metered,
        billed=call.billed,
    )
