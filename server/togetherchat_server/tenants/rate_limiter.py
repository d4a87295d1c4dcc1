"""A limit per minute: the generic cell rate algorithm (GCRA), as pure functions.

One number holds the usage: the moment, on the caller's clock, at which all of it is forgotten. Each
unit moves that moment on by a minute divided by the limit. The moment may be at most a minute ahead of
the clock. So after a quiet minute, a whole minute's limit is available at once. Over any span, usage
never exceeds that burst plus what the span itself adds.

A request is consumed before it is admitted. How many tokens an attempt uses is known only when it has
ended: an estimate is consumed before it, and the difference afterwards. If more was used, the usage may
exceed the limit; the tenant's next call is admitted when the debt is paid.
"""

import math
from typing import Final

MINUTE_S: Final = 60.0
# Sums of decimal fractions are inexact: the last request of a minute must not fail by a rounding error.
ROUNDING_S: Final = 1e-6


def wait_s(used_until_s: float, now_s: float, per_minute: int) -> float:
    """Return how long until one more unit is available; 0 means now. A limit of 0 is no limit."""
    return wait_for_s(used_until_s, now_s, per_minute, 1)


def wait_for_s(used_until_s: float, now_s: float, per_minute: int, units: int) -> float:
    """Return how long until this many units are available, of which there are at most `per_minute`."""
    if not per_minute:
        return 0.0
    excess_s = max(used_until_s, now_s) + units * MINUTE_S / per_minute - now_s - MINUTE_S
    return excess_s if excess_s > ROUNDING_S else 0.0


def used_units(used_until_s: float, now_s: float, per_minute: int) -> int:
    """Return how many units of the limit are in use, rounded up."""
    return math.ceil(max(0.0, used_until_s - now_s - ROUNDING_S) * per_minute / MINUTE_S)


def consume(used_until_s: float, now_s: float, per_minute: int, units: int) -> float:
    """Return the usage after consuming `units`. Without a limit, no usage is counted."""
    if not per_minute:
        return used_until_s
    return max(used_until_s, now_s) + units * MINUTE_S / per_minute


def give_back(used_until_s: float, per_minute: int, units: int) -> float:
    """Return the usage after units that were consumed turned out to be unused."""
    if not per_minute:
        return used_until_s
    return used_until_s - units * MINUTE_S / per_minute
