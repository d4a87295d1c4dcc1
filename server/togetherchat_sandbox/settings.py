"""The sandbox's settings with their defaults and bounds. Knows no flags and no sockets."""

from dataclasses import dataclass

FIRST_TOKEN_MS = 150.0
TOKENS_PER_SECOND = 80.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Settings of a sandbox: equal settings and equal requests give equal completions.

    `first_token_ms` and `tokens_per_second` are None where they are not configured: the defaults
    are then 150 and 80, and models such as `sandbox/long`, which are useless at that pace, do not
    wait at all. 0 means no waiting.
    """

    seed: int = 0
    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    unary_wait_max_ms: float = 3_000.0
    request_log_size: int = 1_000
    bill_size: int = 10_000
    """Request ids whose charges are kept."""
    request_bytes_max: int = 64 * 1024 * 1024
    repeat_counter_size: int = 10_000
