"""Computes when each token is due. Does not wait and does not read a clock.

A token's time is counted from the start of the response, not from the token before it, so that
late wake-ups do not add up.
"""

from dataclasses import dataclass

from togetherchat_sandbox.settings import FIRST_TOKEN_MS, TOKENS_PER_SECOND, SandboxSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """Seconds to the first token, then tokens per second (0: all at once)."""

    first_token_s: float
    tokens_per_second: float
    unary_wait_max_s: float

    def due_s(self, position: int) -> float:
        """Return when the token at `position` (from 0) is due."""
        if not self.tokens_per_second:
            return self.first_token_s
        return self.first_token_s + position / self.tokens_per_second

    def unary_due_s(self, tokens: int) -> float:
        """Return when a unary response of `tokens` is due: when its stream would end, within the cap."""
        return min(self.due_s(tokens), self.unary_wait_max_s)


def _pacing(settings: SandboxSettings, first_token_ms: float, tokens_per_second: float) -> Pacing:
    return Pacing(
        first_token_s=first_token_ms / 1_000,
        tokens_per_second=tokens_per_second,
        unary_wait_max_s=settings.unary_wait_max_ms / 1_000,
    )


def as_configured(settings: SandboxSettings) -> Pacing:
    """Return the configured pacing, with the defaults where a value is not configured."""
    first_token_ms, tokens_per_second = settings.first_token_ms, settings.tokens_per_second
    return _pacing(
        settings,
        FIRST_TOKEN_MS if first_token_ms is None else first_token_ms,
        TOKENS_PER_SECOND if tokens_per_second is None else tokens_per_second,
    )


def configured_only(settings: SandboxSettings) -> Pacing:
    """Return the configured pacing, without waiting where a value is not configured."""
    return _pacing(settings, settings.first_token_ms or 0, settings.tokens_per_second or 0)


def slow(settings: SandboxSettings) -> Pacing:
    """Return two seconds to the first token and five tokens a second, whatever is configured."""
    return _pacing(settings, 2_000, 5)


def immediate(settings: SandboxSettings) -> Pacing:
    """Return no waiting, whatever is configured."""
    return _pacing(settings, 0, 0)
