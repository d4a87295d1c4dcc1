"""What is known of a call when it has ended: one frozen record, handed to every sink.

The record holds no text of the caller's and no key: a sink may write all of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from togetherchat_server.domain.call import Call
from togetherchat_server.domain.trace_context import CallTrace, SpanContext


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One ended call. Durations in seconds; None where it never came to that."""

    id: str
    protocol: str
    method: str
    code: str
    """The status of that protocol, `OK` or for example `UNAVAILABLE`."""
    reason: str
    """The reason of the failure, empty when there was none."""
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
    model_asked: str = ""
    """The model as the caller wrote it, where that is not `model`: an alias, or one that gave way."""
    rate_limits: tuple[tuple[str, str], ...] = ()
    """The provider's rate-limit headers, as the last attempt brought them."""
    tenant: str = ""
    """Whose call it was, where callers have keys of this service."""
    key_id: str = ""
    """Which of its keys it came with: the id, which is no secret."""
    caller_key: bool = False
    """Whether the provider was asked with a key that the caller brought."""
    trace: str = ""
    """The trace that holds its spans, empty where there are none."""


Sink = Callable[[CallRecord], None]


class Spans(Protocol):
    """Makes the spans of calls."""

    def begin(self, parent: SpanContext | None) -> tuple[SpanContext, CallTrace | None]:
        """Decide whether a call is traced. What the provider is told, and where spans are made of."""
        ...

    def end(self, call: Call, record: CallRecord) -> None:
        """Make the spans of a traced call. Never waits."""
        ...
