"""`make bench-guard`: fails when a change makes the hot path more expensive.

The guard compares our CPU time with the bare handler's in one run and uses no absolute times: on a slow or
busy machine both are slow. A disturbance affects both contestants of a round; the median round decides.
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
from bench.stage import RunningContestant, Stage, StageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The maximum ratio of our cost to the bare handler's; `reason` says how it was chosen."""

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
        reason="measured 2.7 to 3.2; aiohttp in place of our HTTP client adds 0.8, httpx's transport adds 10",
    ),
    Limit(
        figure="burst",
        variant="8",
        most=0.9,
        rounds=5,
        reason="measured 0.3; near 1 the service sends one message per token, as the floor does",
    ),
    Limit(
        figure="trickle",
        variant="100",
        most=3.0,
        rounds=3,
        reason="measured 1.6 to 2.0; 50% is a margin for noise",
    ),
)
ATTEMPTS: Final = 2
"""A figure above its limit is measured once more: another process may have disturbed the run."""
SECONDS: Final = 2


def middle_ratio(rounds: Sequence[Mapping[str, float]]) -> float:
    """Return the median of the ratios ours / bare of the rounds."""
    ratios = sorted(each["ours"] / each["bare"] for each in rounds)
    return ratios[len(ratios) // 2]


def measured_ratio(run: Stage, servers: Sequence[RunningContestant], figure: Figure, limit: Limit) -> float:
    rounds: list[dict[str, float]] = []
    for _ in range(limit.rounds):
        costs: dict[str, float] = {}
        for server in servers:
            turn = Turn(stage=run, server=server, seconds=SECONDS, capacities={})
            costs[server.contestant.name] = figure.measure(turn, limit.variant)["cpu_us"]
        rounds.append(costs)
    return middle_ratio(rounds)


def within_limit(run: Stage, servers: Sequence[RunningContestant], limit: Limit) -> bool:
    figure = next(figure for figure in FIGURES if figure.name == limit.figure)
    ratio = 0.0
    for _ in range(ATTEMPTS):
        ratio = measured_ratio(run, servers, figure, limit)
        if ratio <= limit.most:
            break
    holds = ratio <= limit.most
    sys.stdout.write(
        f"{limit.figure}: {ratio:.2f} x bare, at most {limit.most:g}: {'holds' if holds else 'EXCEEDED'}\n"
    )
    if not holds:
        sys.stdout.write(f"  reason for {limit.most:g}: {limit.reason}\n")
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--installed", default=".bench", help="folder of the installed programs")
    installed, pins = Path(parser.parse_args().installed).resolve(), cores.of_this_machine()
    with stage.upstream(installed, pins) as upstream:
        run = Stage(installed=installed, cores=pins, upstream=upstream)
        with run.running(BY_NAME["bare"]) as bare, run.running(BY_NAME["ours"]) as ours:
            servers = (bare, ours)
            for server in servers:
                stage.validate(server)
            try:
                results = [within_limit(run, servers, limit) for limit in LIMITS]
            except StageError as error:
                sys.exit(f"bench-guard: no valid measurement: {error}")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
