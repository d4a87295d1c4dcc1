"""Merges the metrics of all workers for the supervisor's `/metrics`.

Counts are added up for good, so a counter never decreases when a worker ends. Gauges are those of
the workers that run.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, final

from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS, Key
from togetherchat_server.telemetry.metrics.store import MetricStore
from togetherchat_server.telemetry.metrics.wire import Snapshot

_MERGES: Final[Mapping[str, Callable[[Iterable[float]], float]]] = {"sum": sum, "max": max, "min": min}


@final
class FleetMetrics:
    """The merged metrics of all workers."""

    def __init__(self) -> None:
        self._store = MetricStore()
        self._gauges: dict[int, dict[Key, float]] = {}

    def add(self, worker_id: int, deltas: Snapshot) -> None:
        """Add a packet of a worker: its counts since the previous one, and its current gauges."""
        self._store.add(deltas.store)
        if deltas.gauges:
            self._gauges.setdefault(worker_id, {}).update(deltas.gauges)

    def remove_worker(self, worker_id: int) -> None:
        """Forget the gauges of a worker that has ended."""
        self._gauges.pop(worker_id, None)

    def snapshot(self, *, own: Mapping[Key, float], own_counts: Mapping[Key, float]) -> Snapshot:
        """Return the metrics of all workers, and the supervisor's own.

        A gauge of `own` replaces the workers', and a total of `own_counts` is added to theirs.
        """
        merged = dict[Key, float]()
        for gauges in self._gauges.values():
            for key, number in gauges.items():
                merge = _MERGES[DEFINITIONS[key[0]].merge]
                merged[key] = merge((merged[key], number)) if key in merged else number
        merged.update(own)
        store = MetricStore()
        store.counters = dict(self._store.counters)
        for key, number in own_counts.items():
            store.count(key, number)
        store.histograms, store.last_values = self._store.histograms, self._store.last_values
        return Snapshot(store=store, gauges=merged)
