"""The facts of one call: `Call`, which hardly changes, and `Progress`, which does.

The provider fills in `Progress`, so that a failure can report how far the call had come.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.domain.secret import Secret
from togetherchat_server.domain.trace_context import CallTrace


class Phase(enum.StrEnum):
    """How far a call has progressed. Reported in error metadata and in the call record."""

    ADMITTED = "admitted"
    AWAITING_RESPONSE = "awaiting_response"
    RESPONDING = "responding"


@dataclass(slots=True, kw_only=True)
class Progress:
    """What is known of a call so far. The provider writes it; the frontend reads it."""

    phase: Phase = Phase.ADMITTED
    queued_s: float = 0.0
    """Time spent in the admission queue, in seconds."""
    upstream: str = ""
    """`together` or `sandbox`; empty before the first attempt."""
    attempts: int = 0
    """Requests sent to the provider."""
    model: str = ""
    """The model of the last attempt, after aliases and fallbacks."""
    model_requested: str = ""
    """The model that the caller named."""
    upstream_request_id: str = ""
    rate_limits: tuple[tuple[str, str], ...] = ()
    """The provider's rate-limit headers, lower case, of the last attempt."""
    debug_headers: tuple[tuple[str, str], ...] = ()
    """The provider's headers for debugging, lower case, of the last attempt, if the call requests them."""
    first_event_s: float | None = None
    """When the first event of the completion was received, on the monotonic clock."""
    output_deltas: int = 0
    """Fragments of text, reasoning or arguments received: about one per token."""
    budget_remaining_usd: str = ""
    """What is left of the tenant's budget, where its soft limit is reached; empty otherwise."""
    billable: bool = False
    """Whether the last attempt was sent, and the provider has not declined it by its status."""
    usage: chat.Usage | None = None
    """The usage of the last attempt, if it is complete."""
    warnings: tuple[str, ...] = ()
    """What was changed in the request of the last attempt. Its completion carries these warnings."""

    def sent(self) -> None:
        """Record that the last attempt is being sent."""
        self.billable = True


@dataclass(slots=True, kw_only=True)
class Billed:
    """What the provider bills for the attempts of a call, as far as is known. Costs are 1e-9 USD."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Part of `input_tokens`."""
    reasoning_tokens: int = 0
    """Part of `output_tokens`."""
    cost_nano_usd: int = 0
    estimated_cost_nano_usd: int = 0
    """The part of `cost_nano_usd` for attempts that ended without the provider's usage."""
    estimated: bool = False
    """Whether there was such an attempt."""
    unpriced: bool = False
    """Whether an attempt used a model without a price, so that the cost is not known."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One RPC or HTTP request of a caller. Times are seconds on the monotonic clock.

    The session sets the deadline, the client's address, and what a credential adds that can only be checked
    with the peer, when the frontend knows them; nothing else changes.
    """

    id: str
    method: str
    received_s: float
    received_us: int = 0
    """When the call arrived: microseconds since 1970, UTC. Its day and month are those of its quotas."""
    record_id: str = ""
    """Identifies the call's record: unique over all processes, unlike `id`."""
    deadline_s: float
    """When the call must have ended: the caller's deadline minus the margin, or our call timeout."""
    deadline_reason: Reason
    """CALLER_DEADLINE or CALL_TIMEOUT."""
    upstream_key: Secret | None
    """The key sent to the provider; None if the provider needs none."""
    caller_brought_key: bool = False
    previous_attempts: int = 0
    """Earlier attempts of the caller for the same call (`grpc-previous-rpc-attempts`)."""
    tenant: str = ""
    """The tenant, if callers authenticate with keys of this service."""
    key_id: str = ""
    """The id of the key that the caller presented; not a secret."""
    subject: str = ""
    """The subject of a caller's JWT or certificate, instead of a key id."""
    allowed_models: tuple[str, ...] = ()
    """Models to which the caller's key is limited, beside the limits of its tenant. Empty: no limit."""
    adapts_reasoning_effort: bool = True
    """Whether the caller accepts another `reasoning_effort` where the model does not know its own."""
    debug: bool = False
    """Whether the caller requests the provider's headers for debugging."""
    user: str = ""
    """`CompleteRequest.user`: the end user for whom the caller calls."""
    client_address: str = ""
    """The address of the client; empty until the frontend knows it."""
    traceparent: str = ""
    """Trace header sent to the provider when the attempt has no span of its own."""
    tracestate: str = ""
    trace: CallTrace | None = None
    """The data of its spans; None if the call is not traced."""
    progress: Progress = field(default_factory=Progress)
    billed: Billed = field(default_factory=Billed)

    def seconds_left(self, now_s: float) -> float:
        return self.deadline_s - now_s

    def key_fingerprint(self) -> str:
        """Identifies the upstream key without revealing it; empty if there is none."""
        return "" if self.upstream_key is None else self.upstream_key.fingerprint()


EventBatch = Sequence[service.StreamCompleteResponse]
"""The translated events of one read of the upstream socket. None are a sign of life of the provider."""
