"""Snapshot on their way from a worker to its supervisor: packets of rows, none too large.

A row is a letter for what it is, the key, and a number or a spread: `["c",["name","label"],1]`.
A packet is a JSON array, which tells it from a report.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import orjson

from togetherchat_server.telemetry.metrics.store import Key, MetricStore

PACKET_BYTES_MAX: Final = 32 * 1024
_Row = tuple[str, list[str], float | list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was counted since the last packets, and the gauges as they are."""

    tally: MetricStore
    gauges: Mapping[Key, float] = field(default_factory=dict[Key, float])


def to_packets(figures: Snapshot) -> Iterator[bytes]:
    """Each at most PACKET_BYTES_MAX, which one row never comes near."""
    packet, size = list[bytes](), 2
    for row in _rows(figures):
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
    tally, gauges = MetricStore(), dict[Key, float]()
    for letter, labels, value in cast("list[_Row]", orjson.loads(packet)):
        key = tuple(labels)
        if isinstance(value, list):
            tally.spreads[key] = value
        elif letter == "c":
            tally.counts[key] = value
        else:
            (tally.words if letter == "w" else gauges)[key] = value
    return Snapshot(tally=tally, gauges=gauges)


def _rows(figures: Snapshot) -> Iterator[tuple[str, Key, float | list[float]]]:
    tally = figures.tally
    for letter, numbers in (("c", tally.counts), ("w", tally.words), ("g", figures.gauges)):
        for key, number in numbers.items():
            yield letter, key, number
    for key, spread in tally.spreads.items():
        yield "s", key, spread
