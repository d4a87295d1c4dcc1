"""`make bench-guard`: whether a change made the hot path dearer, without a clock.

It compares CPU of ours with CPU of the bare handler, side by side in one run, and knows no
seconds: on a machine that is twice as slow, or busy, both are. What disturbs one round disturbs
both of its contestants; the least disturbed rounds decide.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import cores, stage
from bench.contestants import BY_NAME
from bench.figures import FIGURES, Figure, Turn
from bench.stage import Running, Stage, StageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The most that ours may cost, in costs of the bare handler; `reason` says where it comes from."""

    figure: str
    variant: str
    most: float
    reason: str


LIMITS: Final = (
    Limit(
        figure="unary",
        variant="16",
        most=5.5,
        reason="measured 3.5 to 4.2 on a busy machine; a second parse or a second client layer adds 1.5",
    ),
    Limit(
        figure="burst",
        variant="8",
        most=1.6,
        reason="measured 0.8 to 1.1; without merging what one read brought it is above 2",
    ),
    Limit(
        figure="trickle",
        variant="100",
        most=2.8,
        reason="measured 1.5 to 2.0; a task or a timer more for each token adds 1",
    ),
)
ROUNDS: Final = 5
ATTEMPTS: Final = 2
"""A figure that is over its limit is measured once more: a neighbour that wakes is no regression."""
SECONDS: Final = 2


def middle_ratio(rounds: Sequence[Mapping[str, float]]) -> float:
    """Ours to bare, of the rounds' own ratios the middle one."""
    ratios = sorted(each["ours"] / each["bare"] for each in rounds)
    return ratios[len(ratios) // 2]


def measured(run: Stage, places: Sequence[Running], figure: Figure, variant: str) -> float:
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        costs: dict[str, float] = {}
        for place in places:
            turn = Turn(stage=run, place=place, seconds=SECONDS, capacities={})
            costs[place.contestant.name] = figure.measure(turn, variant)["cpu_us"]
        rounds.append(costs)
    return middle_ratio(rounds)


def checked(run: Stage, places: Sequence[Running], limit: Limit) -> bool:
    figure = next(figure for figure in FIGURES if figure.name == limit.figure)
    ratio = 0.0
    for _ in range(ATTEMPTS):
        ratio = measured(run, places, figure, limit.variant)
        if ratio <= limit.most:
            break
    holds = ratio <= limit.most
    sys.stdout.write(
        f"{limit.figure}: {ratio:.2f} x bare, at most {limit.most:g}: {'holds' if holds else 'TOO DEAR'}\n"
    )
    if not holds:
        sys.stdout.write(f"  why {limit.most:g}: {limit.reason}\n")
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--installed", default=".bench", help="the folder of what is installed")
    installed, pins = Path(parser.parse_args().installed).resolve(), cores.of_this_machine()
    with stage.upstream(installed, pins) as upstream:
        run = Stage(installed=installed, cores=pins, upstream=upstream)
        with run.running(BY_NAME["bare"]) as bare, run.running(BY_NAME["ours"]) as ours:
            places = (bare, ours)
            for place in places:
                stage.prove(place)
            try:
                held = [checked(run, places, limit) for limit in LIMITS]
            except StageError as error:
                sys.exit(f"the guard could not measure: {error}")
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
