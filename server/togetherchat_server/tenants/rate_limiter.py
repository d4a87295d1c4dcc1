"""A limit per minute: the generic cell rate algorithm (GCRA), as pure functions.

One number holds the usage: the moment, on the caller's clock, at which all of it is forgotten. Each
unit moves that moment on by a minute divided by the limit. The moment may be at most a minute ahead of
the clock. So after a quiet minute, a whole minute's limit is available at once. Over any span, usage
never exceeds that burst plus what the span itself adds.

A request is consumed before it is admitted. How many tokens a call uses is known only when it has
ended, so tokens are consumed afterwards. The usage may then exceed the limit; the tenant's next call
is admitted when the debt is paid.
"""

from typing import Final

MINUTE_S: Final = 60.0
# Sums of decimal fractions are inexact: the last request of a minute must not fail by a rounding error.
ROUNDING_S: Final = 1e-6


def wait_s(used_until_s: float, now_s: float, per_minute: int) -> float:
    """Return how long until one more unit is available; 0 means now. A limit of 0 is no limit."""
    if not per_minute:
        return 0.0
    excess_s = max(used_until_s, now_s) + MINUTE_S / per_minute - now_s - MINUTE_S
    return excess_s if excess_s > ROUNDING_S else 0.0


def consume(used_until_s: float, now_s: float, per_minute: int, units: int) -> float:
    """Return the usage after consuming `units`. Without a limit, no usage is counted."""
    if not per_minute:
        return used_until_s
    return max(used_until_s, now_s) + units * MINUTE_S / per_minute
