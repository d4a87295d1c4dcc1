"""`make bench-guard`: whether a change made the hot path dearer, without a clock.

It compares CPU of ours with CPU of the bare handler, side by side in one run, and knows no
seconds: on a machine that is twice as slow, or busy, both are. What disturbs one round disturbs
both of its contestants; the middle one decides.
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
    rounds: int
    reason: str


LIMITS: Final = (
    Limit(
        figure="unary",
        variant="16",
        most=4.5,
        rounds=5,
        reason="measured 2.7 to 3.2; an HTTP client of aiohttp's instead of ours adds 0.8, httpx's own 10",
    ),
    Limit(
        figure="burst",
        variant="8",
        most=0.9,
        rounds=5,
        reason="measured 0.3; near 1 it sends as many messages as the floor does, one a token",
    ),
    Limit(
        figure="trickle",
        variant="100",
        most=3.0,
        rounds=3,
        reason="measured 1.6 to 2.0; half as much again is room for noise",
    ),
)
ATTEMPTS: Final = 2
"""A figure that is over its limit is measured once more: a neighbour that wakes is no regression."""
SECONDS: Final = 2


def middle_ratio(rounds: Sequence[Mapping[str, float]]) -> float:
    """Ours to bare, of the rounds' own ratios the middle one."""
    ratios = sorted(each["ours"] / each["bare"] for each in rounds)
    return ratios[len(ratios) // 2]


def measured(run: Stage, places: Sequence[Running], figure: Figure, limit: Limit) -> float:
    rounds: list[dict[str, float]] = []
    for _ in range(limit.rounds):
        costs: dict[str, float] = {}
        for place in places:
            turn = Turn(stage=run, place=place, seconds=SECONDS, capacities={})
            costs[place.contestant.name] = figure.measure(turn, limit.variant)["cpu_us"]
        rounds.append(costs)
    return middle_ratio(rounds)


def checked(run: Stage, places: Sequence[Running], limit: Limit) -> bool:
    figure = next(figure for figure in FIGURES if figure.name == limit.figure)
    ratio = 0.0
    for _ in range(ATTEMPTS):
        ratio = measured(run, places, figure, limit)
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
