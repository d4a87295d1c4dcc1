"""`make bench`: measures every figure on every contestant in turns, and writes the results.

Owns the order: which contestant is measured in which round, and what a run leaves out.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from bench import cores, history, machine, openstreams, paced, report, stage, starts
from bench.contestants import BY_NAME, CONTESTANTS, Contestant
from bench.figures import FIGURES, Figure
from bench.samples import Failure, Results, Sample
from bench.stage import RunningContestant, Stage, StageError
from bench.starts import PACED_WORKERS
from bench.turn import Turn, Values

Item = TypeVar("Item")
STARTED: Final = ("start", "import", "workers", PACED_WORKERS)
"""Figures that start processes of their own."""
NAMES: Final = (*(figure.name for figure in FIGURES), *STARTED)
LOADS: Final = tuple(dict.fromkeys(load for figure in FIGURES for load in figure.variants))
QUICK_CONTESTANTS: Final = ("direct", "bare", "ours")
QUICK_FIGURES: Final = ("unary", "burst", "trickle", "start", "import")
START_ROUNDS: Final = 3
FAILURES_MAX: Final = 2
"""Failed runs of one figure after which a contestant is not measured again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Contestants, figures, rounds and durations of a run."""

    contestants: tuple[str, ...]
    figures: tuple[str, ...]
    seconds: int
    rounds_max: int
    variants_max: int
    loads: tuple[str, ...] = ()
    """The only loads to measure; empty: all."""


FULL: Final = Plan(
    contestants=tuple(BY_NAME),
    figures=NAMES,
    seconds=3,
    rounds_max=5,
    variants_max=10,
)
QUICK: Final = Plan(
    contestants=QUICK_CONTESTANTS,
    figures=QUICK_FIGURES,
    seconds=2,
    rounds_max=2,
    variants_max=1,
)


@dataclass(slots=True, kw_only=True)
class Run:
    """A run in progress: its samples and failures so far."""

    stage: Stage
    plan: Plan
    samples: list[Sample] = field(default_factory=list[Sample])
    failures: list[Failure] = field(default_factory=list[Failure])
    gave_up: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """The load at which a contestant failed, by figure and contestant: higher loads are not measured."""

    def everything(self, contestants: Sequence[Contestant]) -> None:
        chosen = [figure for figure in FIGURES if figure.name in self.plan.figures]
        lasting = [figure for figure in chosen if not figure.fresh]
        with ExitStack() as stack:
            needed = (one for one in contestants if any(figure.is_for(one) for figure in lasting))
            started = (self._entered(stack, one) for one in needed)
            servers = [server for server in started if server]
            for figure in lasting:
                self._figure(figure, servers)
        for figure in chosen:
            if figure.fresh:
                self._fresh(figure, contestants)
        self._started(contestants)

    def _entered(self, stack: ExitStack, contestant: Contestant) -> RunningContestant | None:
        try:
            server = stack.enter_context(self.stage.running(contestant))
            stage.validate(server)
            openstreams.validate(self.stage, server)
        except (StageError, OSError) as error:
            self.failures.append(_failure("start", contestant.name, "", 0, error))
            return None
        _log(f"{contestant.label}: serves after {server.start_s:.2f} s")
        return server

    def _figure(self, figure: Figure, servers: Sequence[RunningContestant]) -> None:
        taking_part = [server for server in servers if figure.is_for(server.contestant)]
        for turn_number in range(self.plan.rounds_max):
            for variant in self._variants(figure, turn_number):
                for server in rotated(taking_part, turn_number):
                    self._turn(figure, server, variant, turn_number)

    def _fresh(self, figure: Figure, contestants: Sequence[Contestant]) -> None:
        """Measure every contestant in a new process: memory that was used once is often not returned."""
        taking_part = [contestant for contestant in contestants if figure.is_for(contestant)]
        for turn_number in range(self.plan.rounds_max):
            for variant in self._variants(figure, turn_number):
                for contestant in rotated(taking_part, turn_number):
                    self._fresh_turn(figure, contestant, variant, turn_number)

    def _fresh_turn(self, figure: Figure, contestant: Contestant, variant: str, turn_number: int) -> None:
        if int(variant) > figure.most_for(contestant):
            return
        if earlier := self.gave_up.get((figure.name, contestant.name)):
            reason = StageError(f"not measured: failed at {earlier}")
            self.failures.append(_failure(figure.name, contestant.name, variant, turn_number, reason))
            return
        with ExitStack() as stack:
            server = self._entered(stack, contestant)
            if server:
                self._turn(figure, server, variant, turn_number)

    def _variants(self, figure: Figure, turn_number: int) -> list[str]:
        """Return the loads that are measured in this round."""
        chosen = list(figure.variants.items())[: self.plan.variants_max]
        if self.plan.loads:
            chosen = [(variant, rounds) for variant, rounds in chosen if variant in self.plan.loads]
        return [variant for variant, rounds in chosen if turn_number < rounds]

    def _turn(self, figure: Figure, server: RunningContestant, variant: str, turn_number: int) -> None:
        name = server.contestant.name
        failed = [one for one in self.failures if (one.figure, one.contestant) == (figure.name, name)]
        if len(failed) >= FAILURES_MAX:
            return
        turn = Turn(stage=self.stage, server=server, seconds=self.plan.seconds, capacities=self._capacities())
        try:
            values = figure.measure(turn, variant)
        except (StageError, subprocess.TimeoutExpired) as error:
            self.failures.append(_failure(figure.name, name, variant, turn_number, error))
            if figure.gave_up:
                self.gave_up.setdefault((figure.name, name), variant)
            return
        if figure.gave_up and figure.gave_up(values):
            self.gave_up.setdefault((figure.name, name), variant)
        self._keep(figure.name, name, variant, turn_number, values)

    def _started(self, contestants: Sequence[Contestant]) -> None:
        """Measure the figures that start processes; for our own server only."""
        if "ours" not in {contestant.name for contestant in contestants}:
            return
        own: tuple[tuple[str, str, Callable[[], Values]], ...] = (
            ("import", "", lambda: starts.import_s(self.stage)),
            ("start", "", lambda: starts.start_s(self.stage, "ours")),
            ("workers", "1", lambda: starts.workers(self.stage, self.plan.seconds, 1)),
            ("workers", "2", lambda: starts.workers(self.stage, self.plan.seconds, 2)),
            (PACED_WORKERS, "burst", lambda: starts.paced_workers(self.stage, paced.at_once)),
            (PACED_WORKERS, "steady", lambda: starts.paced_workers(self.stage, paced.arriving)),
        )
        for turn_number in range(min(START_ROUNDS, self.plan.rounds_max)):
            for figure, variant, measure in own:
                if figure not in self.plan.figures:
                    continue
                try:
                    self._keep(figure, "ours", variant, turn_number, measure())
                except (StageError, subprocess.TimeoutExpired) as error:
                    self.failures.append(_failure(figure, "ours", variant, turn_number, error))

    def _capacities(self) -> dict[str, float]:
        results = Results(self.samples)
        found = {name: results.median("unary", name, "16", "per_s") for name in BY_NAME}
        return {name: per_s for name, per_s in found.items() if per_s}

    def _keep(self, figure: str, name: str, variant: str, turn_number: int, values: Values) -> None:
        self.samples.append(
            Sample(figure=figure, contestant=name, variant=variant, round=turn_number, values=values)
        )
        text = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        _log(f"{figure} {variant} round {turn_number + 1} {name}: {text}")


def rotated(items: Sequence[Item], by: int) -> list[Item]:
    """Rotate the items by one per round, so that none always follows the same one."""
    if not items:
        return []
    by %= len(items)
    return [*items[by:], *items[:by]]


def _failure(figure: str, name: str, variant: str, turn_number: int, error: Exception) -> Failure:
    _log(f"{figure} {variant} {name}: {error}")
    return Failure(
        figure=figure, contestant=name, variant=variant, round=turn_number, reason=str(error)[:200]
    )


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL
    installed, out = Path(arguments.installed).resolve(), Path(arguments.out)
    began = time.monotonic()
    facts = machine.facts(installed)
    pins = cores.of_this_machine()
    chosen = Plan(
        contestants=_chosen(arguments.contestants, plan.contestants, tuple(BY_NAME)),
        figures=_chosen(arguments.figures, plan.figures, NAMES),
        seconds=arguments.seconds or plan.seconds,
        rounds_max=arguments.rounds or plan.rounds_max,
        variants_max=plan.variants_max,
        loads=_chosen(arguments.loads, (), LOADS),
    )
    with stage.upstream(installed, pins) as upstream:
        run = Run(stage=Stage(installed=installed, cores=pins, upstream=upstream), plan=chosen)
        left_out = list(_missing(chosen.contestants, installed))
        names = {name for name, _ in left_out}
        run.everything(
            [one for one in CONTESTANTS if one.name in chosen.contestants and one.name not in names]
        )
    taken_s = time.monotonic() - began
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "commit": machine.commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": facts,
        "cores": asdict(pins),
        "seconds": round(taken_s),
        "left_out": [reason for _, reason in left_out],
        "samples": [asdict(sample) for sample in run.samples],
        "failures": [asdict(failure) for failure in run.failures],
    }
    printed = json.dumps(found, indent=1) + "\n"
    (out / "results.json").write_text(printed)
    (out / f"results-{found['commit']}.json").write_text(printed)
    run_report = report.read(found)
    text = report.markdown(run_report, history.before(run_report))
    (out / "results.md").write_text(text)
    sys.stdout.write(text)


def _missing(names: Sequence[str], installed: Path) -> Iterator[tuple[str, str]]:
    flags = subprocess.run(
        [sys.executable, "-m", "togetherchat_server", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for name in names:
        if reason := stage.missing(BY_NAME[name], installed, flags):
            yield name, reason


def _chosen(option: str, default: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in option.split(",") if name.strip()) or default
    if unknown := set(names) - set(known):
        sys.exit(f"unknown name {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few figures and contestants, two minutes")
    parser.add_argument("--contestants", default="", help=f"comma-separated, of {', '.join(BY_NAME)}")
    parser.add_argument("--figures", default="", help=f"comma-separated, of {', '.join(NAMES)}")
    parser.add_argument("--loads", default="", help=f"comma-separated, of {', '.join(LOADS)}")
    parser.add_argument("--rounds", type=int, default=0, help="maximum rounds of each figure")
    parser.add_argument("--seconds", type=int, default=0, help="duration of each closed loop")
    parser.add_argument("--installed", default=".bench", help="folder of the installed contestants")
    parser.add_argument("--out", default="bench/out", help="folder for the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
