"""Metrics as Prometheus reads them: its text format, or OpenMetrics where the scraper accepts it.

`prometheus_client` writes the text, through custom collectors. A line takes ten microseconds, so
many series would block the loop that serves calls. They are written a hundred lines at a time,
and the loop runs in between.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS, Key, MetricDefinition
from togetherchat_server.telemetry.metrics.wire import Snapshot

LINES_PER_CHUNK: Final = 100
_END: Final = b"# EOF\n"

_Series = tuple[Key, list[float]]
"""A histogram, or a list of one number."""


async def exposition(snapshot: Snapshot, accept: str) -> tuple[str, bytes]:
    """Return the content type and the body for a scraper's `accept` header."""
    encode, content_type = choose_encoder(accept)
    parts = list[bytes]()
    for chunk in _chunks(snapshot):
        parts.append(_encoded(chunk, encode))
        await asyncio.sleep(0)
    if content_type.startswith("application/openmetrics-text"):
        parts.append(_END)
    return content_type, b"".join(parts)


@final
class _Chunk(Collector):
    """Some of the series of one metric."""

    def __init__(self, definition: MetricDefinition, series: list[_Series], *, first: bool) -> None:
        self._definition = definition
        self._series = series
        self.first = first

    def collect(self) -> Iterable[Metric]:
        definition = self._definition
        name, text, labels = definition.name, definition.help, definition.labels
        match definition.kind:
            case "counter":
                metric = CounterMetricFamily(name, text, labels=labels)
                for (_, *values), (number,) in self._series:
                    metric.add_metric(values, number * definition.scale)
            case "gauge":
                metric = GaugeMetricFamily(name, text, labels=labels)
                for (_, *values), (number,) in self._series:
                    metric.add_metric(values, number * definition.scale)
            case "histogram":
                metric = HistogramMetricFamily(name, text, labels=labels)
                for (_, *values), histogram in self._series:
                    metric.add_metric(values, _buckets(definition.bounds, histogram), histogram[-1])
        yield metric


def _encoded(chunk: _Chunk, encode: Callable[[Collector], bytes]) -> bytes:
    """Return the lines of a chunk. Only the first chunk of a metric has its HELP and TYPE lines."""
    text = encode(chunk).removesuffix(_END)
    return text if chunk.first else text.split(b"\n", 2)[2]


def _chunks(snapshot: Snapshot) -> Iterator[_Chunk]:
    for definition, series in _by_definition(snapshot):
        lines_per_series = len(definition.bounds) + 3 if definition.bounds else 1
        size = max(1, LINES_PER_CHUNK // lines_per_series)
        for start in range(0, len(series), size):
            yield _Chunk(definition, series[start : start + size], first=start == 0)


def _by_definition(snapshot: Snapshot) -> Iterator[tuple[MetricDefinition, list[_Series]]]:
    """Yield each metric that has series, in the order of the definitions."""
    store = snapshot.store
    found = {name: _zero_series(definition) for name, definition in DEFINITIONS.items()}
    for numbers in (store.counters, store.last_values, snapshot.gauges):
        for key, number in numbers.items():
            found[key[0]].append((key, [number]))
    for key, histogram in store.histograms.items():
        # A copy: calls end while this is written, and a histogram must be consistent.
        found[key[0]].append((key, list(histogram)))
    for name, series in found.items():
        if series:
            yield DEFINITIONS[name], list(dict(series).items())


def _zero_series(definition: MetricDefinition) -> list[_Series]:
    """Counters and histograms without labels start at zero: a rate needs a value before the first event."""
    if definition.labels or definition.kind == "gauge":
        return []
    return [((definition.name,), [0] * (len(definition.bounds) + 2 if definition.bounds else 1))]


def _buckets(bounds: tuple[float, ...], histogram: list[float]) -> list[tuple[str, float]]:
    """Return cumulative buckets with their upper bounds."""
    uppers = [*map(str, bounds), "+Inf"]
    return list(zip(uppers, itertools.accumulate(histogram[:-1]), strict=True))
