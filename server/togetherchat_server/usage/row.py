"""One row of the usage ledger: what a finished call used and cost. Never its content."""

from collections.abc import Callable
from dataclasses import dataclass

from togetherchat_server.telemetry.call_record import CallRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """A finished call. Times are microseconds; tokens and cost are the sums of all attempts of the call."""

    id: str
    """Unique over all processes, for ever. A row that is inserted twice counts once."""
    time_us: int
    """When the call arrived, since 1970, UTC. The call belongs to the day and month of this moment."""
    call_id: str
    """The request id, which a caller may choose: not unique."""
    tenant: str
    key_id: str
    subject: str
    user: str
    model_requested: str
    model: str
    """The model of the last attempt; empty if none was made."""
    protocol: str
    method: str
    code: str
    reason: str
    """The reason of the failure; empty for a success."""
    upstream: str
    upstream_request_id: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated_cost_nano_usd: int
    """The cost of attempts that ended without the provider's usage."""
    estimated: bool
    """Whether there was such an attempt."""
    cost_nano_usd: int | None
    """None if a model without a price was used."""
    duration_us: int
    first_token_us: int | None


RowSink = Callable[[LedgerRow], None]


def ledger_row(record: CallRecord) -> LedgerRow:
    """Return the row of a finished call."""
    billed = record.billed
    return LedgerRow(
        id=record.record_id,
        time_us=record.received_us,
        call_id=record.id,
        tenant=record.tenant,
        key_id=record.key_id,
        subject=record.subject,
        user=record.user,
        model_requested=record.model_requested or record.model,
        model=record.model,
        protocol=record.protocol,
        method=record.method,
        code=record.code,
        reason=record.reason,
        upstream=record.upstream,
        upstream_request_id=record.upstream_request_id,
        attempts=record.attempts,
        input_tokens=billed.input_tokens,
        output_tokens=billed.output_tokens,
        cached_tokens=billed.cached_tokens,
        reasoning_tokens=billed.reasoning_tokens,
        estimated=billed.estimated,
        estimated_cost_nano_usd=billed.estimated_cost_nano_usd,
        cost_nano_usd=None if billed.unpriced else billed.cost_nano_usd,
        duration_us=round(record.duration_s * 1e6),
        first_token_us=None if record.first_token_s is None else round(record.first_token_s * 1e6),
    )
