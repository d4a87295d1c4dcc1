"""The bounds of attempts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """Timeouts of attempts in seconds, and the bound on one event in bytes."""

    response_timeout_s: float
    first_token_timeout_s: float
    stream_idle_timeout_s: float
    max_event_bytes: int
    stream_upstream_min_tokens: int
    """From this `max_tokens` on, a unary completion is read as a stream; 0: always."""
