"""The provider's rate limits for the service's own key, as gauges.

The provider sends its limits in headers of responses, separately for each model. Limits of keys
that callers bring are not recorded: they do not describe the service's account.
"""

import math
from collections.abc import Iterator
from typing import Final

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.definitions import Key

HEADERS: Final = frozenset(
    {
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-limit-dynamic",
        "x-ratelimit-remaining-dynamic",
        "x-tokenlimit-limit",
        "x-tokenlimit-remaining",
        "x-tokenlimit-limit-dynamic",
        "x-tokenlimit-remaining-dynamic",
    }
)
"""A list, so that a provider cannot create series by inventing headers."""


def rate_limit_gauges(
    model: str, headers: tuple[tuple[str, str], ...], *, received_s: float
) -> Iterator[tuple[Key, float]]:
    """Yield a gauge for each known header with a number, rounded down, and the time of the update."""
    for header, text in headers:
        if header in HEADERS and (number := _number(text)) is not None:
            yield (names.UPSTREAM_RATE_LIMIT, model, header.removeprefix("x-")), number
            yield (names.UPSTREAM_RATE_LIMIT_UPDATED, model), received_s


def _number(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number >= 0 else None
