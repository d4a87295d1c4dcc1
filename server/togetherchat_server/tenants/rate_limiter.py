"""So many per minute: the generic cell rate algorithm, pure.

One number holds what was used: the moment, in seconds of the caller's clock, at which all of it will
be forgotten again. Each unit moves it a sixtieth of a minute's share on. It may run ahead of the
clock by a minute: so after a quiet minute a whole minute's share may be had at once, and over any
span never more than that share besides what the span itself brings.

Requests are taken before they are let in. How many tokens a call uses is known when it has ended,
so they are put on the account afterwards, which may go into debt: nobody is let in until it is paid.
"""

from typing import Final

MINUTE_S: Final = 60.0
# Sums of tenths are no tenths: a minute's last request must not fail by a rounding error.
ROUNDING_S: Final = 1e-6


def wait_s(used_until_s: float, now_s: float, per_minute: int) -> float:
    """How long until one more may be had; 0: now. A limit of 0 does not bind."""
    if not per_minute:
        return 0.0
    over_s = max(used_until_s, now_s) + MINUTE_S / per_minute - now_s - MINUTE_S
    return over_s if over_s > ROUNDING_S else 0.0


def consume(used_until_s: float, now_s: float, per_minute: int, units: int) -> float:
    """The account with so many units more on it. Where no limit binds, none is kept."""
    if not per_minute:
        return used_until_s
    return max(used_until_s, now_s) + units * MINUTE_S / per_minute
