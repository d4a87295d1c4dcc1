"""The facts of one call: frozen in `Call`, and `Progress`, the one part that changes.

The provider fills in `Progress`, so that a failure can report how far the call had come.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.domain.secret import Secret
from togetherchat_server.domain.trace_context import CallTrace


class Phase(enum.StrEnum):
    """How far a call has come; goes into the metadata of its errors and into its record."""

    ADMITTED = "admitted"
    CONNECTING = "connecting"
    AWAITING_ANSWER = "awaiting_answer"
    ANSWERING = "answering"


@dataclass(slots=True, kw_only=True)
class Progress:
    """What has been learnt of a call so far. Written by the provider, read by the front."""

    phase: Phase = Phase.ADMITTED
    queued_s: float = 0.0
    """How long it waited for a place, in seconds."""
    upstream: str = ""
    """Who answers: `together` or `sandbox`. Empty before the first attempt."""
    attempts: int = 0
    """Requests sent to the provider."""
    model: str = ""
    """The model last asked for, after aliases and fallbacks."""
    model_asked: str = ""
    """The model as the caller wrote it."""
    upstream_request_id: str = ""
    rate_limits: tuple[tuple[str, str], ...] = ()
    """The provider's rate-limit headers, lower case, of the last attempt."""
    first_event_s: float | None = None
    """When the first piece of the answer was in hand, on the monotonic clock."""
    output_pieces: int = 0
    """Pieces of text, thinking or arguments received: about one a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One RPC or HTTP request of a caller. Times are seconds on the monotonic clock."""

    id: str
    method: str
    received_s: float
    deadline_s: float
    """When it must have ended: the caller's deadline less the margin, or our own cap."""
    deadline_reason: Reason
    """Whose deadline that is: CALLER_DEADLINE or CALL_TIMEOUT."""
    upstream_key: Secret | None
    """The key to ask the provider with; None towards an upstream that needs none."""
    caller_brought_key: bool = False
    previous_attempts: int = 0
    """Attempts of the caller's own retry before this one (`grpc-previous-rpc-attempts`)."""
    tenant: str = ""
    """Whose call it is, where callers have keys of this service."""
    key_id: str = ""
    """Which of its keys it came with: the id, which is no secret."""
    traceparent: str = ""
    """What the provider is told of the trace where no span is made of the attempt."""
    tracestate: str = ""
    trace: CallTrace | None = None
    """Where its spans are made of; None where it is not traced."""
    progress: Progress = field(default_factory=Progress)

    def seconds_left(self, now_s: float) -> float:
        return self.deadline_s - now_s

    def key_fingerprint(self) -> str:
        """What tells the upstream key from others, empty where there is none."""
        return "" if self.upstream_key is None else self.upstream_key.fingerprint()


EventBatch = Sequence[service.StreamCompleteResponse]
"""What one read of the upstream socket brought, translated."""
