"""Snapshot as Prometheus reads them: its text format, or OpenMetrics where the scraper asks for it.

The writing is `prometheus_client`'s, by way of custom collectors. It takes ten microseconds a
line, so many series would stop the loop that serves calls: they are written a few at a time,
and the loop turns in between.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS, MetricDefinition
from togetherchat_server.telemetry.metrics.store import Key
from togetherchat_server.telemetry.metrics.wire import Snapshot

LINES_AT_ONCE: Final = 100
_END: Final = b"# EOF\n"

_Series = tuple[Key, list[float]]
"""A spread, or a list of one number."""


async def exposition(figures: Snapshot, accept: str) -> tuple[str, bytes]:
    """The content type and the body for what a scraper accepts."""
    encode, content_type = choose_encoder(accept)
    parts = list[bytes]()
    for piece in _pieces(figures):
        parts.append(_written(piece, encode))
        await asyncio.sleep(0)
    if content_type.startswith("application/openmetrics-text"):
        parts.append(_END)
    return content_type, b"".join(parts)


@final
class _Piece(Collector):
    """A few series of one family."""

    def __init__(self, family: MetricDefinition, series: list[_Series], *, first: bool) -> None:
        self._family = family
        self._series = series
        self.first = first

    def collect(self) -> Iterable[Metric]:
        family = self._family
        match family.kind:
            case "counter":
                metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
                for (_, *labels), (number,) in self._series:
                    metric.add_metric(labels, number * family.scale)
            case "gauge":
                metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
                for (_, *labels), (number,) in self._series:
                    metric.add_metric(labels, number * family.scale)
            case "histogram":
                metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
                for (_, *labels), spread in self._series:
                    metric.add_metric(labels, _buckets(family.bounds, spread), spread[-1])
        yield metric


def _written(piece: _Piece, encode: Callable[[Collector], bytes]) -> bytes:
    """The lines of a piece; of a family only its first piece says what it is."""
    text = encode(piece).removesuffix(_END)
    return text if piece.first else text.split(b"\n", 2)[2]


def _pieces(figures: Snapshot) -> Iterator[_Piece]:
    for family, series in _by_family(figures):
        at_once = max(1, LINES_AT_ONCE // (len(family.bounds) + 3 if family.bounds else 1))
        for begin in range(0, len(series), at_once):
            yield _Piece(family, series[begin : begin + at_once], first=begin == 0)


def _by_family(figures: Snapshot) -> Iterator[tuple[MetricDefinition, list[_Series]]]:
    """Each family that has series, in the order of the table."""
    tally = figures.tally
    found: dict[str, list[_Series]] = {name: _from_nought(family) for name, family in DEFINITIONS.items()}
    for numbers in (tally.counts, tally.words, figures.gauges):
        for key, number in numbers.items():
            found[key[0]].append((key, [number]))
    for key, spread in tally.spreads.items():
        # A copy: the loop turns while this is written, and a spread must agree with itself.
        found[key[0]].append((key, list(spread)))
    for name, series in found.items():
        if series:
            yield DEFINITIONS[name], list(dict(series).items())


def _from_nought(family: MetricDefinition) -> list[_Series]:
    """What has no labels is there before anything happens: a rate needs a beginning."""
    if family.labels or family.kind == "gauge":
        return []
    return [((family.name,), [0] * (len(family.bounds) + 2 if family.bounds else 1))]


def _buckets(bounds: tuple[float, ...], spread: list[float]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    uppers = [*map(str, bounds), "+Inf"]
    return list(zip(uppers, itertools.accumulate(spread[:-1]), strict=True))
