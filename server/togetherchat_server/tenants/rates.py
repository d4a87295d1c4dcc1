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


def wait_s(used_until_s: float, now_s: float, *, per_minute: int, units: int) -> float:
    """How long until so many units may be had; 0: now."""
    ahead_s = max(used_until_s, now_s) + units * MINUTE_S / per_minute - now_s
    # Sums of tenths are no tenths: a minute's last request must not fail by a rounding error.
    return max(0.0, ahead_s - MINUTE_S) if ahead_s - MINUTE_S > 1e-6 else 0.0


def used(used_until_s: float, now_s: float, *, per_minute: int, units: int) -> float:
    """The account with so many units more on it."""
    return max(used_until_s, now_s) + units * MINUTE_S / per_minute
