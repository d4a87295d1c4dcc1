"""The command of `make fuzz`: runs every target in turn, then prints a table. Status 1 after a finding."""

import argparse
import sys
from collections.abc import Sequence

from fuzz.campaign import ROOT, Run, keep, run
from fuzz.targets import TARGETS

ROW = "{:<10} {:>12} {:>8} {:>10} {:>12} {:>9}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    flags = _parser().parse_args(arguments)
    write = sys.stdout.write
    runs: list[Run] = []
    for target in flags.target or TARGETS:
        write(f"{target}: {flags.seconds} s ...\n")
        sys.stdout.flush()
        runs.append(run(target, seconds=flags.seconds))
    write("\n" + ROW.format("target", "executions", "edges", "features", "new inputs", "findings"))
    for one in runs:
        numbers = (one.executions, one.edges, one.features, one.inputs_new, len(one.findings))
        write(ROW.format(one.target, *(f"{number:,}" for number in numbers)))
    for one in runs:
        if one.output:
            paths = ", ".join(str(path.relative_to(ROOT)) for path in one.findings)
            write(f"\n{one.target}: {paths or 'ended without an input'}\n{one.output}\n")
    if flags.keep:
        for target in flags.target or TARGETS:
            inputs, size = keep(target)
            write(f"{target}: {inputs} inputs kept, {size:,} bytes\n")
    uninstrumented = [one.target for one in runs if not one.features]
    if uninstrumented:
        write(
            f"\nno coverage was recorded for {', '.join(uninstrumented)}: the service was imported uninstrumented\n"
        )
    return 1 if uninstrumented or any(one.output or one.findings for one in runs) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz, guided by coverage.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument(
        "--target", action="append", choices=TARGETS, help="run only this target; may be repeated"
    )
    parser.add_argument("--keep", action="store_true", help="update tests/fuzz/corpus with the new inputs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
