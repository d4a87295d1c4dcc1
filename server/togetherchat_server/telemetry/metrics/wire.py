"""Encodes metrics for the way from a worker to its supervisor: packets of rows, of bounded size.

A row is a letter for its kind, the key, and a number or a histogram: `["c",["name","label"],1]`.
A packet is a JSON array, which distinguishes it from a report.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import orjson

from togetherchat_server.telemetry.metrics.definitions import Key
from togetherchat_server.telemetry.metrics.store import MetricStore

PACKET_BYTES_MAX: Final = 32 * 1024
_Row = tuple[str, list[str], float | list[float] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The counts of a period, and the current gauges."""

    store: MetricStore
    gauges: Mapping[Key, float] = field(default_factory=dict[Key, float])


def to_packets(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield packets of at most PACKET_BYTES_MAX; a single row is always far smaller."""
    packet, size = list[bytes](), 2
    for row in _rows(snapshot):
        text = orjson.dumps(row)
        if size + len(text) + 1 > PACKET_BYTES_MAX:
            yield b"[" + b",".join(packet) + b"]"
            packet, size = [], 2
        packet.append(text)
        size += len(text) + 1
    if packet:
        yield b"[" + b",".join(packet) + b"]"


def is_snapshot(packet: bytes) -> bool:
    return packet.startswith(b"[")


def from_packet(packet: bytes) -> Snapshot:
    store, gauges = MetricStore(), dict[Key, float]()
    for letter, labels, value in cast("list[_Row]", orjson.loads(packet)):
        key = tuple(labels)
        if isinstance(value, list):
            store.histograms[key] = value
            continue
        # JSON has no infinity: orjson writes null. Some gauges have that value: a time that never comes.
        number = math.inf if value is None else value
        if letter == "c":
            store.counters[key] = number
        else:
            (store.last_values if letter == "l" else gauges)[key] = number
    return Snapshot(store=store, gauges=gauges)


def _rows(snapshot: Snapshot) -> Iterator[tuple[str, Key, float | list[float]]]:
    store = snapshot.store
    for letter, numbers in (("c", store.counters), ("l", store.last_values), ("g", snapshot.gauges)):
        for key, number in numbers.items():
            yield letter, key, number
    for key, histogram in store.histograms.items():
        yield "h", key, histogram
