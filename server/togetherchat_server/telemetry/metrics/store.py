"""Numbers by name and labels: what is counted. Knows neither what they mean nor who reads them.

For one loop: nothing here is locked. What comes often is an addition to a number in a
dictionary, or to one of a list that `bisect` finds.
"""

from bisect import bisect_left
from typing import Final, final

from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS

Key = tuple[str, ...]
"""The name of a family, then its labels' values in its order."""

BOUNDS: Final = {name: family.bounds for name, family in DEFINITIONS.items() if family.kind == "histogram"}


@final
class MetricStore:
    """Counts, which are added to; spreads, which values fall into; words, of which the last stands.

    A spread is a number of values for each bound and for those above the last, then their sum.
    """

    __slots__ = ("counts", "spreads", "words")

    def __init__(self) -> None:
        self.counts: dict[Key, float] = {}
        self.spreads: dict[Key, list[float]] = {}
        self.words: dict[Key, float] = {}

    def count(self, key: Key, number: float = 1) -> None:
        self.counts[key] = self.counts.get(key, 0) + number

    def observe(self, key: Key, value: float) -> None:
        bounds = BOUNDS[key[0]]
        spread = self.spreads.get(key)
        if spread is None:
            spread = self.spreads[key] = [0] * (len(bounds) + 2)
        spread[bisect_left(bounds, value)] += 1
        spread[-1] += value

    def add_spread(self, key: Key, more: list[float]) -> None:
        """What fell into the same spread elsewhere."""
        mine = self.spreads.get(key)
        self.spreads[key] = list(more) if mine is None else [a + b for a, b in zip(mine, more, strict=True)]

    def take(self) -> "MetricStore":
        """Everything, and begin at nought."""
        taken = MetricStore()
        taken.counts, self.counts = self.counts, {}
        taken.spreads, self.spreads = self.spreads, {}
        taken.words, self.words = self.words, {}
        return taken
