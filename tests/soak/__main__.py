"""The command behind `make soak`: load, rest, look, and again; then a table of slopes.

Every few seconds the callers pause until the server is at rest, so that what is measured is what
calls leave behind and not what they need. Status 1 where something grows, where the books do not
balance or where a call ended as none should.
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

from soak.figures import Sample, at_rest
from soak.load import Load
from soak.mix import GROUPS, KINDS
from soak.processes import Place, running
from soak.slopes import Slope, slopes

ROW: Final = "{:<30} {:>12} {:>12} {:>14} {:>18} {:>12} {:>12}  {}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    flags = _parser().parse_args(arguments)
    with running(flags.server_flag) as place:
        report = asyncio.run(_soak(place, flags))
    if flags.json:
        flags.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 1 if report["wrong"] else 0


async def _soak(place: Place, flags: argparse.Namespace) -> dict[str, object]:
    kinds = [name for word in flags.only or KINDS for name in GROUPS.get(word, [word])]
    load = Load(place.rpc, kinds, callers=flags.callers, seed=flags.seed, most=flags.count)
    began_s = time.monotonic()
    samples: list[Sample] = []
    try:
        while not load.done and (flags.count or time.monotonic() - began_s < flags.minutes * 60):
            await _load_for(load, flags.every)
            samples.append(await at_rest(place, since_s=began_s, calls=load.calls))
            _say_sample(samples[-1])
            await load.change_a_connection()
    finally:
        await load.close()
    wrong = [f"{times} x {what}" for what, times in load.wrong.items()]
    wrong += _books(place, samples)
    found, too_short = _slopes(samples, load.cut_off / max(1, load.calls))
    wrong += [f"{slope.figure} grows" for slope in found if slope.leaks] + too_short
    _say_report(samples, found, load, wrong)
    return {
        "seed": flags.seed,
        "callers": flags.callers,
        "samples": [asdict(sample) for sample in samples],
        "slopes": [asdict(slope) for slope in found],
        "ended": {f"{kind}: {ending}": times for (kind, ending), times in sorted(load.ended.items())},
        "wrong": wrong,
    }


async def _load_for(load: Load, seconds: float) -> None:
    load.resume()
    until_s = time.monotonic() + seconds
    while not load.done and time.monotonic() < until_s:  # noqa: ASYNC110  a clock has no event
        await asyncio.sleep(0.05)
    await load.pause()


def _books(place: Place, samples: Sequence[Sample]) -> list[str]:
    """What does not balance: calls that are over must have left nothing in flight, here and there."""
    restless = [sample for sample in samples if sample.rest_s is None]
    running_still = place.requests_left_running()
    return [
        *(f"not at rest after {sample.calls} calls: {sample.figures}" for sample in restless),
        *(f"the sandbox still works on {entry['model']}" for entry in running_still),
    ]


def _slopes(samples: Sequence[Sample], cut_off_share: float) -> tuple[list[Slope], list[str]]:
    try:
        return slopes(samples, cut_off_share=cut_off_share), []
    except ValueError as error:
        return [], [str(error)]


def _say_sample(sample: Sample) -> None:
    figures = sample.figures
    sys.stdout.write(
        f"{sample.time_s:8.1f} s {sample.calls:>9,} calls {figures['rss_kib']:>9,} KiB "
        f"{figures['memory_blocks']:>9,} blocks {figures['tasks']:>4} tasks {figures['sockets']:>4} sockets\n"
    )
    sys.stdout.flush()


def _say_report(samples: Sequence[Sample], found: Sequence[Slope], load: Load, wrong: Sequence[str]) -> None:
    say = sys.stdout.write
    say("\n")
    for (kind, ending), times in sorted(load.ended.items()):
        say(f"{times:>9,}  {kind}: {ending}\n")
    if any(slope.known_per_million for slope in found):
        say("\nknown: grpc/grpc#43360, native memory of calls that were cut off, at most so much\n")
    rests = [sample.rest_s for sample in samples if sample.rest_s is not None]
    seconds = samples[-1].time_s if samples else 0.0
    say(f"\n{load.calls:,} calls in {seconds:,.0f} s, at rest within {max(rests, default=0.0):.2f} s\n\n")
    say(ROW.format("figure", "start", "end", "an hour", "a million calls", "tolerance", "known", ""))
    for slope in found:
        told = (slope.tolerance.per_million, slope.known_per_million)
        numbers = (slope.start, slope.end, slope.per_hour, slope.per_million, *told)
        verdict = "GROWS" if slope.leaks else "level"
        say(ROW.format(slope.figure, *(f"{number:,.1f}" for number in numbers), verdict))
    for what in wrong:
        say(f"WRONG: {what}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make soak", description="Load the service for long; see what stays."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--count", type=int, help="how many calls, instead of how long")
    parser.add_argument(
        "--only", action="append", choices=[*GROUPS, *KINDS], help="this kind of call alone; may be repeated"
    )
    parser.add_argument("--callers", type=int, default=64, help="calls at once (default 64)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds of load between looks (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="of the callers' dice (default 1)")
    parser.add_argument("--server-flag", action="append", default=[], help="one more word for the server")
    parser.add_argument("--json", type=Path, help="write everything to this file too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
