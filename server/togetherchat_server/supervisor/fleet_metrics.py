"""The figures of all workers as one, for `/metrics`.

What was counted is added up for good: a worker that goes leaves its counts here, so a counter
never falls. Gauges are those of the workers that live, and go with them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, final

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS
from togetherchat_server.telemetry.metrics.store import Key, MetricStore
from togetherchat_server.telemetry.metrics.wire import Snapshot

# How the gauges of several processes become one.
_MERGES: Final[Mapping[str, Callable[[Iterable[float]], float]]] = {"sum": sum, "max": max, "min": min}


@final
class FleetMetrics:
    """Adds up what workers tell."""

    def __init__(self) -> None:
        self._tally = MetricStore()
        self._gauges: dict[int, dict[Key, float]] = {}

    def heard(self, worker_id: int, told: Snapshot) -> None:
        """A packet came from a worker: what is new since its last one."""
        for key, number in told.tally.counts.items():
            self._tally.count(key, number)
        for key, spread in told.tally.spreads.items():
            self._tally.add_spread(key, spread)
        self._tally.words.update(told.tally.words)
        if told.gauges:
            self._gauges.setdefault(worker_id, {}).update(told.gauges)

    def gone(self, worker_id: int) -> None:
        self._gauges.pop(worker_id, None)

    def figures(self, *, own: Mapping[Key, float], restarts: int) -> Snapshot:
        """All workers as one. Where the supervisor has a gauge of its `own`, that one holds."""
        merged = dict[Key, float]()
        for gauges in self._gauges.values():
            for key, number in gauges.items():
                merge = _MERGES[DEFINITIONS[key[0]].merge]
                merged[key] = merge((merged[key], number)) if key in merged else number
        merged.update(own)
        tally = MetricStore()
        tally.counts = {**self._tally.counts, (names.RESTARTS,): restarts}
        tally.spreads, tally.words = self._tally.spreads, self._tally.words
        return Snapshot(tally=tally, gauges=merged)
