"""`make faults`: every row of the matrix as a table, then a seeded run.

python -m faults --seed 7 --calls 20000      # see faults/run.py
python -m faults --matrix-only
"""

import sys
import textwrap
from pathlib import Path

import pytest

from faults import run

MATRIX = Path(__file__).parent / "matrix"
WIDTHS = (46, 58, 58)


class Table:
    """A pytest plugin: collects what the rows of the matrix recorded, and prints it."""

    def __init__(self):
        self.rows = []
        self.failed = []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)
        if report.when == "call":
            recorded = [
                value for name, value in report.user_properties if name in {"fault", "expected", "seen"}
            ]
            self.rows += zip(*[iter(recorded)] * 3, strict=True)

    def lines(self):
        yield from _cells(("fault", "expected", "seen"))
        yield "-+-".join("-" * width for width in WIDTHS)
        for row in self.rows:
            yield from _cells(row)
        yield from (f"FAILED {name}" for name in self.failed)


def _cells(texts):
    """One row, wrapped to as many lines as needed."""
    columns = [textwrap.wrap(text, width) or [""] for text, width in zip(texts, WIDTHS, strict=True)]
    for number in range(max(map(len, columns))):
        parts = (column[number] if number < len(column) else "" for column in columns)
        yield " | ".join(part.ljust(width) for part, width in zip(parts, WIDTHS, strict=True)).rstrip()


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--matrix-only"]
    table = Table()
    failed = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", str(MATRIX)], plugins=[table])
    sys.stdout.writelines(f"{line}\n" for line in table.lines())
    if "--matrix-only" in sys.argv:
        return int(failed)
    return int(failed) or run.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
