"""Whether a figure grows: a straight line through the samples, and what is too steep.

Pure. A figure leaks where the line rises by more than its noise over the whole run, and by more
than its tolerance in a million calls: the first keeps short runs from reading a step of the
allocator as a leak, the second says what "no slope" means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from soak.figures import Sample

WARM_UP_SHARE: Final = 0.25
"""The first part of a run, left out: pools fill and code is loaded."""
SAMPLES_MIN: Final = 5


@dataclass(frozen=True, slots=True)
class Tolerance:
    """In the figure's own unit."""

    per_million: float
    noise: float


TOLERANCES: Final[Mapping[str, Tolerance]] = {
    "rss_kib": Tolerance(per_million=16_384, noise=8_192),
    "rss_anonymous_kib": Tolerance(per_million=16_384, noise=8_192),
    "memory_blocks": Tolerance(per_million=20_000, noise=10_000),
    "tasks": Tolerance(per_million=20, noise=2),
    "threads": Tolerance(per_million=20, noise=2),
    "open_files": Tolerance(per_million=20, noise=8),
    "sockets": Tolerance(per_million=20, noise=8),
    "upstream_connections_resting": Tolerance(per_million=20, noise=16),
    "upstream_connections_leased": Tolerance(per_million=0, noise=0.5),
    "upstream_requests_in_flight": Tolerance(per_million=0, noise=0.5),
    "calls_in_flight": Tolerance(per_million=0, noise=0.5),
    "calls_waiting": Tolerance(per_million=0, noise=0.5),
    "log_lines_dropped": Tolerance(per_million=0, noise=0.5),
}
"""16 MiB in a million calls are 16 bytes a call, a fiftieth of an empty request with its headers."""
MEMORY: Final = frozenset({"rss_kib", "rss_anonymous_kib"})
GRPC_LEAK_KIB: Final = 192_000
"""What a million calls that were cut off may cost besides: grpcio never frees the operations, 80 bytes
each, of a batch that was being waited for at the time (grpc/grpc#43360; measured with a server that
only sleeps: 13 to 67 bytes a call). Nothing of ours can; to be 0 with the first grpcio that does.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A figure's way through the run."""

    figure: str
    start: float
    end: float
    per_hour: float
    per_million: float
    known_per_million: float
    """Of that, what is known and not ours, at most."""
    tolerance: Tolerance
    leaks: bool


def slopes(samples: Sequence[Sample], *, cut_off_share: float = 0.0) -> list[Slope]:
    """One for each figure that has a tolerance, without the warm-up.

    `cut_off_share` is how many of the calls were cancelled or ran into a deadline.

    Raises:
        ValueError: there are too few samples to say anything.
    """
    kept = samples[int(len(samples) * WARM_UP_SHARE) :]
    if len(kept) < SAMPLES_MIN:
        raise ValueError(f"{len(kept)} samples after the warm-up, {SAMPLES_MIN} are needed")
    grpc_leak = cut_off_share * GRPC_LEAK_KIB
    return [
        _slope(figure, tolerance, kept, known=grpc_leak if figure in MEMORY else 0.0)
        for figure, tolerance in TOLERANCES.items()
    ]


def _slope(figure: str, tolerance: Tolerance, samples: Sequence[Sample], *, known: float) -> Slope:
    values = [sample.figures[figure] for sample in samples]
    calls = [sample.calls for sample in samples]
    a_call, level = fit(calls, values)
    a_second, _ = fit([sample.time_s for sample in samples], values)
    growth = a_call * (calls[-1] - calls[0])
    per_million = a_call * 1e6
    return Slope(
        figure=figure,
        start=level + a_call * calls[0],
        end=level + a_call * calls[-1],
        per_hour=a_second * 3600,
        per_million=per_million,
        known_per_million=known,
        tolerance=tolerance,
        leaks=growth > tolerance.noise and per_million > tolerance.per_million + known,
    )


def fit(places: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The straight line of least squares: its slope, and its height at 0. Level where there is no width."""
    count = len(places)
    middle, mean = sum(places) / count, sum(values) / count
    width = sum((place - middle) ** 2 for place in places)
    pairs = zip(places, values, strict=True)
    slope = sum((place - middle) * (value - mean) for place, value in pairs) / width if width else 0.0
    return slope, mean - slope * middle
