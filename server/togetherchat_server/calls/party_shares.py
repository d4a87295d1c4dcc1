"""Which parties have called lately, and what share of the capacity each of them has.

A party has a share while it holds capacity, and for a minute after its last call: a party that calls
every few seconds finds its share free when it returns.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

REMEMBERED_S: Final = 60.0
PARTIES_MAX: Final = 10_000
"""Parties that are remembered without holding anything; the addresses of a flood are no more than this."""


@dataclass(slots=True)
class _Party:
    weight: float
    called_s: float
    held: int = 0


@final
class PartyShares:
    """The parties of one process, by the time of their last call."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._parties: OrderedDict[str, _Party] = OrderedDict()
        self._weights = 0.0

    def called(self, party: str, weight: float) -> None:
        """Record a call of a party, whether or not it is accepted."""
        now_s = self._clock()
        known = self._parties.get(party)
        if known is None:
            known = self._parties[party] = _Party(weight, now_s)
            self._weights += weight
        elif known.weight != weight:
            self._weights += weight - known.weight
            known.weight = weight
        known.called_s = now_s
        self._parties.move_to_end(party)
        self._forget(now_s)

    def granted(self, party: str, weight: float) -> None:
        """Count capacity that a party got."""
        if party not in self._parties:  # the call was read, or queued, for more than a minute
            self.called(party, weight)
        self._parties[party].held += 1

    def released(self, party: str) -> None:
        """Count capacity that a party gave back."""
        self._parties[party].held -= 1

    def held(self, party: str) -> int:
        """Return how much capacity a party holds."""
        known = self._parties.get(party)
        return 0 if known is None else known.held

    def share(self, party: str) -> float:
        """Return the share of a party, from 0 to 1."""
        self._forget(self._clock())
        known = self._parties.get(party)
        weight = 0.0 if known is None else known.weight
        # Alone, a party has everything. The sum of the weights is inexact, and empty without parties.
        return 1.0 if self._weights <= weight or len(self._parties) == 1 else weight / self._weights

    def _forget(self, now_s: float) -> None:
        """Forget parties that hold nothing and have not called for a minute, or are too many."""
        while self._parties:
            name, oldest = next(iter(self._parties.items()))
            if now_s - oldest.called_s < REMEMBERED_S and len(self._parties) <= PARTIES_MAX:
                return
            if oldest.held:
                oldest.called_s = now_s  # its calls last long
                self._parties.move_to_end(name)
                if len(self._parties) > PARTIES_MAX:
                    return
                continue
            del self._parties[name]
            self._weights -= oldest.weight
        self._weights = 0.0
