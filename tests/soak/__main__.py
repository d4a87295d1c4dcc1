"""The command of `make soak`: alternates load and measurement, then prints a table of slopes.

Every few seconds the callers pause until the server is idle, so that a sample shows what calls
leave behind and not what they need. The exit status is 1 if something grows, if something stays in
flight, or if a call ended in a way that it must not.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from soak.load import Load
from soak.sample import Sample, sample_when_idle
from soak.scenarios import GROUPS, SCENARIOS
from soak.service import Service, running_service
from soak.slopes import Slope, slopes
from togetherchat_server.telemetry.metrics import definitions as names

ROW: Final = "{:<42} {:>12} {:>12} {:>14} {:>18} {:>12} {:>12}  {}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    flags = _parser().parse_args(arguments)
    with running_service(flags.server_flag) as service:
        report = asyncio.run(_soak(service, flags))
    if flags.json:
        flags.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 1 if report["errors"] else 0


async def _soak(service: Service, flags: argparse.Namespace) -> dict[str, object]:
    scenarios = [name for choice in flags.only or SCENARIOS for name in GROUPS.get(choice, [choice])]
    load = Load(service.grpc, scenarios, callers=flags.callers, seed=flags.seed, max_calls=flags.count)
    started_s = time.monotonic()
    samples: list[Sample] = []
    try:
        while not load.done and (flags.count or time.monotonic() - started_s < flags.minutes * 60):
            await _load_for(load, flags.every)
            samples.append(await sample_when_idle(service, since_s=started_s, calls=load.calls))
            _write_sample(samples[-1])
            await load.replace_connection()
    finally:
        await load.close()
    errors = [f"{count} x {error}" for error, count in load.errors.items()]
    errors += _left_in_flight(service, samples)
    found, too_short = _slopes(samples, load.cut_off / max(1, load.calls))
    errors += [f"{slope.value} grows" for slope in found if slope.leaks] + too_short
    _write_report(samples, found, load, errors)
    return {
        "seed": flags.seed,
        "callers": flags.callers,
        "samples": [asdict(sample) for sample in samples],
        "slopes": [asdict(slope) for slope in found],
        "outcomes": {
            f"{scenario}: {outcome}": count for (scenario, outcome), count in sorted(load.outcomes.items())
        },
        "errors": errors,
    }


async def _load_for(load: Load, seconds: float) -> None:
    load.resume()
    until_s = time.monotonic() + seconds
    while not load.done and time.monotonic() < until_s:  # noqa: ASYNC110  a clock sets no event
        await asyncio.sleep(0.05)
    await load.pause()


def _left_in_flight(service: Service, samples: Sequence[Sample]) -> list[str]:
    """Return what finished calls left in flight, in the server and in the sandbox."""
    busy = [sample for sample in samples if sample.idle_after_s is None]
    return [
        *(f"not idle after {sample.calls} calls: {sample.values}" for sample in busy),
        *(f"the sandbox still works on {entry['model']}" for entry in service.running_requests()),
    ]


def _slopes(samples: Sequence[Sample], cut_off_fraction: float) -> tuple[list[Slope], list[str]]:
    try:
        return slopes(samples, cut_off_fraction=cut_off_fraction), []
    except ValueError as error:
        return [], [str(error)]


def _write_sample(sample: Sample) -> None:
    values = sample.values
    sys.stdout.write(
        f"{sample.time_s:8.1f} s {sample.calls:>9,} calls {values['rss_kib']:>9,} KiB "
        f"{values[names.PYTHON_ALLOCATED_BLOCKS]:>9,} blocks {values[names.ASYNCIO_TASKS]:>4} tasks "
        f"{values['sockets']:>4} sockets\n"
    )
    sys.stdout.flush()


def _write_report(
    samples: Sequence[Sample], found: Sequence[Slope], load: Load, errors: Sequence[str]
) -> None:
    write = sys.stdout.write
    write("\n")
    for (scenario, outcome), count in sorted(load.outcomes.items()):
        write(f"{count:>9,}  {scenario}: {outcome}\n")
    if any(slope.known_per_million for slope in found):
        write("\nknown: native memory of cancelled calls that grpcio leaks, at most (grpc/grpc#43360)\n")
    waits = [sample.idle_after_s for sample in samples if sample.idle_after_s is not None]
    seconds = samples[-1].time_s if samples else 0.0
    write(f"\n{load.calls:,} calls in {seconds:,.0f} s, idle within {max(waits, default=0.0):.2f} s\n\n")
    write(ROW.format("value", "start", "end", "per hour", "per million calls", "tolerance", "known", ""))
    for slope in found:
        numbers = (slope.start, slope.end, slope.per_hour, slope.per_million)
        limits = (slope.tolerance.per_million, slope.known_per_million)
        verdict = "GROWS" if slope.leaks else "level"
        write(ROW.format(slope.value, *(f"{number:,.1f}" for number in (*numbers, *limits)), verdict))
    for error in errors:
        write(f"ERROR: {error}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make soak", description="Run the service under load for a long time, and measure what grows."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes to run (default 10)")
    parser.add_argument("--count", type=int, help="number of calls to make, instead of --minutes")
    parser.add_argument(
        "--only", action="append", choices=[*GROUPS, *SCENARIOS], help="only this scenario; can be repeated"
    )
    parser.add_argument("--callers", type=int, default=64, help="concurrent callers (default 64)")
    parser.add_argument(
        "--every", type=float, default=5.0, help="seconds of load between samples (default 5)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the callers' random generators (default 1)"
    )
    parser.add_argument(
        "--server-flag",
        action="append",
        default=[],
        help="a further argument for the server; can be repeated",
    )
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
