"""Collects everything that one process measures: its store, its gauges and its counters.

Gauges, and counters that other parts keep, are callbacks. A scrape or a heartbeat calls them;
the parts themselves write nothing here.
"""

import asyncio
import platform
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics import process
from togetherchat_server.telemetry.metrics.call_metrics import CallMetrics
from togetherchat_server.telemetry.metrics.definitions import Key
from togetherchat_server.telemetry.metrics.event_loop_lag import EventLoopLag
from togetherchat_server.telemetry.metrics.live_window import LiveWindow
from togetherchat_server.telemetry.metrics.rate_limits import rate_limit_gauges
from togetherchat_server.telemetry.metrics.store import MetricStore
from togetherchat_server.telemetry.metrics.wire import Snapshot

Callbacks = dict[Key, Callable[[], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """Constants of the process."""

    version: str
    max_concurrent_calls: int
    wall_clock: Callable[[], float]


@final
class MetricsCollector:
    """The metrics of one process that serves calls."""

    def __init__(self, info: ProcessInfo, *, ready: Callable[[], bool]) -> None:
        self.gauges: Final[Callbacks] = {
            (names.ASYNCIO_TASKS,): lambda: len(asyncio.all_tasks()),
            (names.PYTHON_ALLOCATED_BLOCKS,): sys.getallocatedblocks,
            (names.READY,): ready,
        }
        """Current values by series. Every part adds its own."""
        self.counters: Final[Callbacks] = {(names.PROCESS_CPU,): process.cpu_s}
        """Totals since the start that other parts keep, by series."""
        self._store = MetricStore()
        self._wall_clock = info.wall_clock
        self._call_metrics: CallMetrics | None = None
        self._live_window: LiveWindow | None = None
        self._counters_read: dict[Key, float] = {}
        self._lag = EventLoopLag(lambda lag_s: self._store.observe((names.EVENT_LOOP_LAG,), lag_s))
        self._constants: dict[Key, float] = {
            (names.BUILD_INFO, info.version, platform.python_version()): 1,
            (names.MAX_CONCURRENT_CALLS,): info.max_concurrent_calls,
            (names.PROCESS_START_TIME,): info.wall_clock(),
        }

    def sink(self, *, models: Container[str]) -> CallMetrics:
        """Return the sink of call records. Only `models` appear by name."""
        self._call_metrics = CallMetrics(self._store, models=models, wall_clock=self._wall_clock)
        return self._call_metrics

    def open_live_window(self, *, clock: Callable[[], float]) -> LiveWindow:
        """Keep the last minute of this process's counts from now on."""
        self._live_window = LiveWindow(self._store, clock=clock)
        return self._live_window

    def start(self) -> None:
        """Start the timers on the running event loop."""
        self._lag.start()
        if self._live_window is not None:
            self._live_window.start()

    def stop(self) -> None:
        self._lag.stop()
        if self._live_window is not None:
            self._live_window.stop()

    def snapshot(self) -> Snapshot:
        """Return the current values of all metrics."""
        self._read_parts()
        return Snapshot(store=self._store, gauges=self._read_gauges())

    def drain_deltas(self) -> Snapshot:
        """Return the counts since the last call of this method, and the current gauges."""
        self._read_parts()
        deltas = self._store.drain()
        if self._live_window is not None:
            self._live_window.add_drained(deltas)
        return Snapshot(store=deltas, gauges=self._read_gauges())

    def _read_parts(self) -> None:
        for key, read in self.counters.items():
            total = read()
            self._store.count(key, total - self._counters_read.get(key, 0))
            self._counters_read[key] = total
        if self._call_metrics is not None:
            updates, self._call_metrics.rate_limits = self._call_metrics.rate_limits, {}
            for model, (received_s, headers) in updates.items():
                self._store.last_values.update(rate_limit_gauges(model, headers, received_s=received_s))

    def _read_gauges(self) -> dict[Key, float]:
        read = {key: float(callback()) for key, callback in self.gauges.items()}
        return {**self._constants, **process.resource_usage(), **read}
