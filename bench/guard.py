"""`make bench-guard`: fails when a change makes the hot path more expensive, or paced streams starve or fail.

The guard compares our CPU time with the bare handler's, and our two frontends with each other, in one run. It
uses no absolute times: on a slow or busy machine both are slow. A disturbance affects both contestants of a
round; the median round decides.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import cores, paced, stage
from bench.contestants import BY_NAME
from bench.figures import FIGURES, Figure
from bench.stage import RunningContestant, Stage, StageError
from bench.turn import Turn, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The maximum ratio of a value of ours to that of another; `reason` says how it was chosen."""

    value: str
    most: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A load, the contestant to which `ours` is compared, and the bounds of the ratios."""

    figure: Figure
    variant: str
    to: str
    rounds: int
    bounds: tuple[Bound, ...]


PACED_TOKENS: Final = 200
"""Streams of four seconds: long enough for all of them to be open at once, short enough for CI."""
PACED_FIRST_TOKEN_RATIO_MAX: Final = 3.0
PACED_DURATION_RATIO_MAX: Final = 1.3
"""The bounds of 300 paced streams over gRPC, compared with our HTTP frontend.

Left alone, grpcio accepts one call in each turn of the event loop, and so many streams delay new ones for
seconds: the ratios were 10 and 1.5.

CPU has no bound here: on a busy machine the HTTP frontend merges more tokens. The ratio grew from 2 to 7.
"""


def paced_burst(turn: Turn, variant: str) -> Values:
    """Measure `variant` short paced streams, none of which may fail."""
    found = paced.measured(turn.stage, turn.server, paced.at_once(int(variant), tokens=PACED_TOKENS))
    if found["failed"]:
        causes = ", ".join(name for name in found if name.startswith(paced.FAILED))
        raise StageError(f"{found['failed']:.0f} of {found['streams']:.0f} paced streams failed: {causes}")
    return found | {"duration": 1 + found["stretch"]}


BY_FIGURE: Final = {figure.name: figure for figure in FIGURES}
LIMITS: Final = (
    Limit(
        figure=BY_FIGURE["unary"],
        variant="16",
        to="bare",
        rounds=5,
        bounds=(
            Bound(
                value="cpu_us",
                most=4.5,
                reason="measured 1.9 to 3.2; aiohttp adds 0.8 to it, httpx's transport 10",
            ),
        ),
    ),
    Limit(
        figure=BY_FIGURE["burst"],
        variant="8",
        to="bare",
        rounds=5,
        bounds=(
            Bound(
                value="cpu_us",
                most=0.9,
                reason="measured 0.3; near 1 the service sends one message per token, as the floor does",
            ),
        ),
    ),
    Limit(
        figure=BY_FIGURE["trickle"],
        variant="100",
        to="bare",
        rounds=3,
        bounds=(Bound(value="cpu_us", most=3.0, reason="measured 1.6 to 2.0; 50% is a margin for noise"),),
    ),
    Limit(
        figure=Figure(name="paced", measure=paced_burst, variants={"300": 3}),
        variant="300",
        to="ours-http",
        rounds=3,
        bounds=(
            Bound(value="first_token_p50_ms", most=PACED_FIRST_TOKEN_RATIO_MAX, reason="measured 0.7 to 1.1"),
            Bound(value="duration", most=PACED_DURATION_RATIO_MAX, reason="measured 1.00 to 1.13"),
        ),
    ),
)
ATTEMPTS: Final = 2
"""A figure above its limit is measured once more: another process may have disturbed the run."""
SECONDS: Final = 2


def middle_ratio(rounds: Sequence[Mapping[str, Values]], to: str, value: str) -> float:
    """Return the median of the ratios of our value to another's."""
    ratios = sorted(each["ours"][value] / each[to][value] for each in rounds)
    return ratios[len(ratios) // 2]


def measured(run: Stage, servers: Mapping[str, RunningContestant], limit: Limit) -> list[dict[str, Values]]:
    """Measure both contestants in turns."""
    rounds: list[dict[str, Values]] = []
    for _ in range(limit.rounds):
        rounds.append({})
        for name in (limit.to, "ours"):
            turn = Turn(stage=run, server=servers[name], seconds=SECONDS, capacities={})
            rounds[-1][name] = limit.figure.measure(turn, limit.variant)
    return rounds


def verdict(limit: Limit, rounds: Sequence[Mapping[str, Values]]) -> tuple[bool, str]:
    """Return whether all bounds hold, and the lines to print."""
    holds, lines = True, ""
    for bound in limit.bounds:
        ratio = middle_ratio(rounds, limit.to, bound.value)
        text = "holds" if ratio <= bound.most else f"EXCEEDED; {bound.reason}"
        lines += (
            f"{limit.figure.name}, {bound.value}: {ratio:.2f} x {limit.to}, at most {bound.most:g}: {text}\n"
        )
        holds = holds and ratio <= bound.most
    return holds, lines


def within_limit(run: Stage, servers: Mapping[str, RunningContestant], limit: Limit) -> bool:
    holds, lines = False, ""
    for _ in range(ATTEMPTS):
        holds, lines = verdict(limit, measured(run, servers, limit))
        if holds:
            break
    sys.stdout.write(lines)
    sys.stdout.flush()
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--installed", default=".bench", help="folder of the installed programs")
    installed, pins = Path(parser.parse_args().installed).resolve(), cores.of_this_machine()
    with stage.upstream(installed, pins) as upstream:
        run = Stage(installed=installed, cores=pins, upstream=upstream)
        with (
            run.running(BY_NAME["bare"]) as bare,
            run.running(BY_NAME["ours"]) as ours,
            run.running(BY_NAME["ours-http"]) as ours_http,
        ):
            servers = {"bare": bare, "ours": ours, "ours-http": ours_http}
            try:
                for server in servers.values():
                    stage.validate(server)
                results = [within_limit(run, servers, limit) for limit in LIMITS]
            except StageError as error:
                sys.exit(f"bench-guard: no valid measurement: {error}")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
