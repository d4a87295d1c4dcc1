"""Decides whether a measured value grows, from a straight line through the samples.

Pure. A value leaks if the line rises by more than the value's noise over the whole run, and by more
than its tolerance per million calls. The first keeps short runs from taking a step of the allocator
for a leak; the second defines "no growth".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from soak.sample import ACTIVE_CONNECTIONS, IDLE_CONNECTIONS, Sample
from togetherchat_server.telemetry.metrics import definitions as names

WARM_UP_FRACTION: Final = 0.25
"""The first part of a run is ignored: pools fill and code is loaded."""
SAMPLES_MIN: Final = 5


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits in the unit of the value."""

    per_million: float
    noise: float


TOLERANCES: Final[Mapping[str, Tolerance]] = {
    "rss_kib": Tolerance(per_million=16_384, noise=8_192),
    "rss_anonymous_kib": Tolerance(per_million=16_384, noise=8_192),
    names.PYTHON_ALLOCATED_BLOCKS: Tolerance(per_million=20_000, noise=10_000),
    names.ASYNCIO_TASKS: Tolerance(per_million=20, noise=2),
    "threads": Tolerance(per_million=20, noise=2),
    "open_files": Tolerance(per_million=20, noise=8),
    "sockets": Tolerance(per_million=20, noise=8),
    IDLE_CONNECTIONS: Tolerance(per_million=20, noise=16),
    ACTIVE_CONNECTIONS: Tolerance(per_million=0, noise=0.5),
    names.UPSTREAM_REQUESTS_IN_FLIGHT: Tolerance(per_million=0, noise=0.5),
    names.CALLS_IN_FLIGHT: Tolerance(per_million=0, noise=0.5),
    names.CALLS_QUEUED: Tolerance(per_million=0, noise=0.5),
    names.LOG_LINES_DROPPED: Tolerance(per_million=0, noise=0.5),
}
"""16 MiB per million calls are 16 bytes per call, a fiftieth of an empty request with its headers."""
MEMORY: Final = frozenset({"rss_kib", "rss_anonymous_kib"})
GRPC_LEAK_KIB: Final = 192_000
"""Extra memory allowed per million cancelled or timed-out calls. grpcio never frees the operations, 80
bytes each, of a batch that is pending at that time (grpc/grpc#43360; measured with a server that only
sleeps: 13 to 67 bytes per call). This service cannot free them. Set to 0 with the first grpcio that does.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """The growth of one value over the run."""

    value: str
    start: float
    end: float
    per_hour: float
    per_million: float
    known_per_million: float
    """The part of it, at most, that is known and not caused by this service."""
    tolerance: Tolerance
    leaks: bool


def slopes(samples: Sequence[Sample], *, cut_off_fraction: float = 0.0) -> list[Slope]:
    """Return a slope for each value with a tolerance, without the warm-up.

    `cut_off_fraction` is the fraction of calls that were cancelled or exceeded their deadline.

    Raises:
        ValueError: there are too few samples.
    """
    kept = samples[int(len(samples) * WARM_UP_FRACTION) :]
    if len(kept) < SAMPLES_MIN:
        raise ValueError(
            f"{len(kept)} samples after the warm-up are too few: {SAMPLES_MIN} are needed, run for longer"
        )
    grpc_leak = cut_off_fraction * GRPC_LEAK_KIB
    return [
        _slope(value, tolerance, kept, known=grpc_leak if value in MEMORY else 0.0)
        for value, tolerance in TOLERANCES.items()
    ]


def _slope(name: str, tolerance: Tolerance, samples: Sequence[Sample], *, known: float) -> Slope:
    values = [sample.values[name] for sample in samples]
    calls = [sample.calls for sample in samples]
    per_call, level = fit(calls, values)
    per_second, _ = fit([sample.time_s for sample in samples], values)
    growth = per_call * (calls[-1] - calls[0])
    per_million = per_call * 1e6
    return Slope(
        value=name,
        start=level + per_call * calls[0],
        end=level + per_call * calls[-1],
        per_hour=per_second * 3600,
        per_million=per_million,
        known_per_million=known,
        tolerance=tolerance,
        leaks=growth > tolerance.noise and per_million > tolerance.per_million + known,
    )


def fit(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Return the slope and the intercept of the least-squares line; a slope of 0 if all xs are equal."""
    count = len(xs)
    middle, mean = sum(xs) / count, sum(ys) / count
    width = sum((x - middle) ** 2 for x in xs)
    pairs = zip(xs, ys, strict=True)
    slope = sum((x - middle) * (y - mean) for x, y in pairs) / width if width else 0.0
    return slope, mean - slope * middle
