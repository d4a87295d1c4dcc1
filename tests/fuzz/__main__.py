"""The command behind `make fuzz`: every target in turn, then a table. Status 1 where one found something."""

import argparse
import sys
from collections.abc import Sequence

from fuzz.campaign import ROOT, Run, keep, run
from fuzz.targets import TARGETS

ROW = "{:<10} {:>12} {:>8} {:>10} {:>12} {:>9}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    flags = _parser().parse_args(arguments)
    say = sys.stdout.write
    runs: list[Run] = []
    for target in flags.target or TARGETS:
        say(f"{target}: {flags.seconds} s ...\n")
        sys.stdout.flush()
        runs.append(run(target, seconds=flags.seconds))
    say("\n" + ROW.format("target", "executions", "edges", "features", "new inputs", "findings"))
    for one in runs:
        numbers = (one.executions, one.edges, one.features, one.inputs_new, len(one.findings))
        say(ROW.format(one.target, *(f"{number:,}" for number in numbers)))
    for one in runs:
        if one.said:
            paths = ", ".join(str(path.relative_to(ROOT)) for path in one.findings)
            say(f"\n{one.target}: {paths or 'ended without an input'}\n{one.said}\n")
    if flags.keep:
        for target in flags.target or TARGETS:
            inputs, size = keep(target)
            say(f"{target}: {inputs} inputs kept, {size:,} bytes\n")
    blind = [one.target for one in runs if not one.features]
    if blind:
        say(f"\nno coverage was seen in {', '.join(blind)}: the service was imported uninstrumented\n")
    return 1 if blind or any(one.said or one.findings for one in runs) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz, guided by coverage.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--target", action="append", choices=TARGETS, help="this one alone; may be repeated")
    parser.add_argument("--keep", action="store_true", help="renew tests/fuzz/corpus with what was found")
    return parser


if __name__ == "__main__":
    sys.exit(main())
