"""Numbers by series: counters, histograms, and last values. Knows nothing of their meaning or readers.

Used from one event loop, so nothing is locked. The frequent operations are an addition in a
dictionary, or in a list at an index that `bisect` finds.
"""

from bisect import bisect_left
from typing import Final, final

from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS, Key

BOUNDS: Final = {
    name: definition.bounds for name, definition in DEFINITIONS.items() if definition.kind == "histogram"
}


@final
class MetricStore:
    """Counters, histograms, and gauges of which the last value counts.

    A histogram is a list: the number of values in each bucket, the number above the last bound,
    and the sum of all values.
    """

    __slots__ = ("counters", "histograms", "last_values")

    def __init__(self) -> None:
        self.counters: dict[Key, float] = {}
        self.histograms: dict[Key, list[float]] = {}
        self.last_values: dict[Key, float] = {}

    def count(self, key: Key, number: float = 1) -> None:
        self.counters[key] = self.counters.get(key, 0) + number

    def observe(self, key: Key, value: float) -> None:
        bounds = BOUNDS[key[0]]
        histogram = self.histograms.get(key)
        if histogram is None:
            histogram = self.histograms[key] = [0] * (len(bounds) + 2)
        histogram[bisect_left(bounds, value)] += 1
        histogram[-1] += value

    def add(self, other: "MetricStore") -> None:
        """Add the counts of another store, and take over its last values."""
        for key, number in other.counters.items():
            self.count(key, number)
        for key, theirs in other.histograms.items():
            ours = self.histograms.get(key)
            self.histograms[key] = (
                list(theirs) if ours is None else [a + b for a, b in zip(ours, theirs, strict=True)]
            )
        self.last_values.update(other.last_values)

    def drain(self) -> "MetricStore":
        """Return everything as a new store, and start again at zero."""
        drained = MetricStore()
        drained.counters, self.counters = self.counters, {}
        drained.histograms, self.histograms = self.histograms, {}
        drained.last_values, self.last_values = self.last_values, {}
        return drained
