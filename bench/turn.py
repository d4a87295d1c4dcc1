"""One measurement: what it runs on, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.stage import RunningContestant, Stage

MICROSECONDS: Final = 1e6

Values = dict[str, float]
Capacities = Mapping[str, float]
"""Unary calls per second of each contestant, measured by `unary`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One measurement: the running contestant, the duration of a loop, and the known capacities."""

    stage: Stage
    server: RunningContestant
    seconds: int
    capacities: Capacities
