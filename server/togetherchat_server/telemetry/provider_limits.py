"""The provider's limits on this service's own key, as gauges: a sink of call records.

Owns their names and what is remembered, which is the last word on each: the provider tells its
limits with answers and not when asked, and counts them for each model apart. A gauge appears when
the provider first tells its value. What it tells of keys that callers bring is theirs alone.
"""

import math
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Final, final

from togetherchat_server.telemetry.call_record import CallRecord

NAMES: Final = {
    f"x-{kind}-{word}": f"upstream_{kind}_{word}".replace("-", "_")
    for kind, word in (
        ("ratelimit", "limit"),
        ("ratelimit", "remaining"),
        ("ratelimit", "reset"),
        ("ratelimit", "limit-dynamic"),
        ("ratelimit", "remaining-dynamic"),
        ("tokenlimit", "limit"),
        ("tokenlimit", "remaining"),
        ("tokenlimit", "limit-dynamic"),
        ("tokenlimit", "remaining-dynamic"),
    )
}
AGE: Final = "upstream_limits_age_s"


@final
class ProviderRateLimits:
    """Puts the limits into `gauges`, rounded down, and how many seconds ago the last came."""

    def __init__(self, gauges: MutableMapping[str, Callable[[], int]], *, clock: Callable[[], float]) -> None:
        self._gauges = gauges
        self._clock = clock
        self._told: dict[str, int] = {}
        self._told_s = 0.0

    def __call__(self, record: CallRecord) -> None:
        told = {} if record.caller_key else _numbers(record)
        if not told:
            return
        self._told.update(told)
        self._told_s = self._clock()
        self._gauges[AGE] = self._age_s
        for name in told:
            self._gauges[name] = partial(self._told.__getitem__, name)

    def _age_s(self) -> int:
        return int(self._clock() - self._told_s)


def _numbers(record: CallRecord) -> dict[str, int]:
    told: dict[str, int] = {}
    for header, text in record.rate_limits:
        if header in NAMES and (number := number_of(text)) is not None:
            told[NAMES[header]] = number
    return told


def number_of(text: str) -> int | None:
    """What a header of a limit says, rounded down; None where that is no number to show."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number >= 0 else None
