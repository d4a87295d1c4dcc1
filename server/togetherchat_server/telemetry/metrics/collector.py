"""Everything that one process measures: its tally, its gauges, and when they are read.

Gauges and totals that others keep are read when somebody asks: at a scrape, or at a worker's
heartbeat. Nothing is written into them from where things happen.
"""

import platform
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics import process
from togetherchat_server.telemetry.metrics.call_metrics import CallMetrics
from togetherchat_server.telemetry.metrics.event_loop_lag import EventLoopLag
from togetherchat_server.telemetry.metrics.store import Key, MetricStore
from togetherchat_server.telemetry.metrics.wire import Snapshot
from togetherchat_server.telemetry.provider_limits import NAMES, number_of

GAUGES: Final[Mapping[str, Key]] = {
    "tasks": (names.TASKS,),
    "memory_blocks": (names.MEMORY_BLOCKS,),
    "calls_in_flight": (names.IN_FLIGHT,),
    "calls_waiting": (names.WAITING,),
    "http_connections": (names.HTTP_CONNECTIONS,),
    "upstream_requests_in_flight": (names.UPSTREAM_IN_FLIGHT,),
    "upstream_connections_leased": (names.UPSTREAM_CONNECTIONS, "leased"),
    "upstream_connections_resting": (names.UPSTREAM_CONNECTIONS, "resting"),
    "retry_budget_left": (names.BUDGET,),
    "breaker_pairs_held": (names.BREAKER, "held"),
    "breaker_pairs_dropping": (names.BREAKER, "dropping"),
    "quota_redis_away": (names.QUOTAS_APART,),
    "tls_certificate_expires_s": (names.CERTIFICATE_LEFT,),
}
"""What is counted for `/vars` by the name it has there."""
TOTALS: Final[Mapping[str, Key]] = {
    "log_lines_dropped": (names.LINES_DROPPED,),
    "trace_spans_made": (names.SPANS, "made"),
    "trace_spans_exported": (names.SPANS, "exported"),
    "trace_spans_lost": (names.SPANS, "lost"),
}
"""What `/vars` shows and never falls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """What does not change while the process lives."""

    version: str
    max_concurrent_calls: int
    wall_clock: Callable[[], float]


@final
class MetricsCollector:
    """The figures of one process that serves calls. `vars_read` may still grow after this begins."""

    def __init__(
        self, vars_read: Mapping[str, Callable[[], int]], *, facts: ProcessInfo, ready: Callable[[], bool]
    ) -> None:
        self._vars = vars_read
        self._ready = ready
        self._tally = MetricStore()
        self._wall_clock = facts.wall_clock
        self._calls: CallMetrics | None = None
        self._totals_seen: dict[Key, float] = {}
        self._lag = EventLoopLag(lambda late_s: self._tally.observe((names.LAG,), late_s))
        self._fixed: dict[Key, float] = {
            (names.BUILD, facts.version, platform.python_version()): 1,
            (names.PLACES,): facts.max_concurrent_calls,
            (names.STARTED,): facts.wall_clock(),
        }

    def sink(self, *, models: Container[str]) -> CallMetrics:
        """What is to be told of every ended call; `models` are those that are named."""
        self._calls = CallMetrics(self._tally, models=models, wall_clock=self._wall_clock)
        return self._calls

    def start(self) -> None:
        """Begin to watch the loop that runs."""
        self._lag.start()

    def stop(self) -> None:
        self._lag.stop()

    def figures(self) -> Snapshot:
        """Everything as it is now."""
        self._read_totals()
        return Snapshot(tally=self._tally, gauges=self._gauges())

    def take(self) -> Snapshot:
        """What came since this was last called, and the gauges as they are now."""
        self._read_totals()
        return Snapshot(tally=self._tally.take(), gauges=self._gauges())

    def _read_totals(self) -> None:
        totals: dict[Key, float] = {
            key: float(self._vars[name]()) for name, key in TOTALS.items() if name in self._vars
        }
        totals[names.CPU,] = process.cpu_s()
        for key, total in totals.items():
            self._tally.count(key, total - self._totals_seen.get(key, 0))
            self._totals_seen[key] = total
        if self._calls is not None:
            told, self._calls.limits_told = self._calls.limits_told, {}
            for model, (told_s, headers) in told.items():
                self._tally.words.update(_limits(model, told_s, headers))

    def _gauges(self) -> dict[Key, float]:
        read = {key: float(self._vars[name]()) for name, key in GAUGES.items() if name in self._vars}
        return {**self._fixed, **process.in_use(), **read, (names.READY,): int(self._ready())}


def _limits(model: str, told_s: float, headers: tuple[tuple[str, str], ...]) -> Iterator[tuple[Key, float]]:
    for header, text in headers:
        if header in NAMES and (number := number_of(text)) is not None:
            yield (names.LIMIT, model, header.removeprefix("x-")), number
            yield (names.LIMIT_TOLD, model), told_s
