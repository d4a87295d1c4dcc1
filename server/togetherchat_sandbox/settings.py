"""What a sandbox can be told. Owns the defaults and the bounds; knows no flags and no sockets."""

from dataclasses import dataclass

FIRST_TOKEN_MS = 150.0
TOKENS_PER_SECOND = 80.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Same settings, same requests, same answers.

    `first_token_ms` and `tokens_per_second` are None where nobody chose them: then they are 150
    and 80, and names such as `sandbox/long` that are no use at that pace do not wait at all.
    0 means no waiting.
    """

    seed: int = 0
    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    unary_wait_max_ms: float = 3_000.0
    ledger_requests_max: int = 1_000
    request_bytes_max: int = 64 * 1024 * 1024
    repeats_max: int = 10_000
