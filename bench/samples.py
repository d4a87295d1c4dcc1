"""Measured values, and what is made of them: medians, spreads, ratios. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

NOISY_SPREAD: Final = 0.2
"""Differences under a fifth are noise on a shared machine, and so is a spread above it a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one run of one contestant gave for one figure; `variant` is the load it was under."""

    figure: str
    contestant: str
    variant: str
    round: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of the same value in all rounds."""

    median: float
    least: float
    most: float
    count: int

    @property
    def spread(self) -> float:
        """The distance between the extremes as a share of the median."""
        return (self.most - self.least) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that proved nothing, and why."""

    figure: str
    contestant: str
    variant: str
    round: int
    reason: str


class Results:
    """All samples of a run, asked by figure, contestant, variant and the value's name."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def summary(self, figure: str, contestant: str, variant: str, value: str) -> Summary | None:
        return summarise(self._by_round(figure, contestant, variant, value).values())

    def median(self, figure: str, contestant: str, variant: str, value: str) -> float | None:
        found = self.summary(figure, contestant, variant, value)
        return found.median if found else None

    def ratio(self, figure: str, variant: str, value: str, *, of: str, to: str) -> float | None:
        """The median of the ratios within each round: what disturbs a round disturbs both."""
        above, below = (self._by_round(figure, name, variant, value) for name in (of, to))
        ratios = [above[turn] / below[turn] for turn in above.keys() & below.keys() if below[turn]]
        return statistics.median(ratios) if ratios else None

    def variants(self, figure: str) -> list[str]:
        return list(dict.fromkeys(sample.variant for sample in self.samples if sample.figure == figure))

    def contestants(self, figure: str) -> list[str]:
        return list(dict.fromkeys(sample.contestant for sample in self.samples if sample.figure == figure))

    def _by_round(self, figure: str, contestant: str, variant: str, value: str) -> dict[int, float]:
        return {
            sample.round: sample.values[value]
            for sample in self.samples
            if (sample.figure, sample.contestant, sample.variant) == (figure, contestant, variant)
            and value in sample.values
        }


def summarise(values: Iterable[float]) -> Summary | None:
    found = list(values)
    if not found:
        return None
    return Summary(median=statistics.median(found), least=min(found), most=max(found), count=len(found))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of all are not above; of no values 0."""
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))] if ordered else 0.0
