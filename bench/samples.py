"""Measured values, and their medians, spreads and ratios. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

NOISY_SPREAD: Final = 0.2
"""On a shared machine, differences below a fifth are noise. The report marks larger spreads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The values of one figure for one contestant in one round; `variant` is the load."""

    figure: str
    contestant: str
    variant: str
    round: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Statistics of one value over all rounds."""

    median: float
    least: float
    most: float
    count: int

    @property
    def spread(self) -> float:
        """Return the distance between the extremes as a share of the median."""
        return (self.most - self.least) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An invalid measurement and its reason."""

    figure: str
    contestant: str
    variant: str
    round: int
    reason: str


class Results:
    """All samples of a run, looked up by figure, contestant, variant and the name of the value."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def summary(self, figure: str, contestant: str, variant: str, value: str) -> Summary | None:
        return summarise(self._by_round(figure, contestant, variant, value).values())

    def median(self, figure: str, contestant: str, variant: str, value: str) -> float | None:
        found = self.summary(figure, contestant, variant, value)
        return found.median if found else None

    def ratio(self, figure: str, variant: str, value: str, *, of: str, to: str) -> float | None:
        """Return the median of the ratios within each round: a disturbance of a round affects both sides."""
        numerators, denominators = (self._by_round(figure, name, variant, value) for name in (of, to))
        rounds = [turn for turn in numerators.keys() & denominators.keys() if denominators[turn]]
        ratios = [numerators[turn] / denominators[turn] for turn in rounds]
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
    """Return the value that the given share of all values does not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))] if ordered else 0.0
