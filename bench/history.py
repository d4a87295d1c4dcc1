"""Keeps the targets of each published run with its commit, so that a regression shows.

    python -m bench.history [bench/out/results.json]

adds the run to history.jsonl, and writes its tables and pictures into RESULTS.md. A run of another machine is
another series: only targets of the same kind of CPU are compared.
"""

import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench import report
from bench.targets import Entry, judged

FOLDER: Final = Path(__file__).parent
HISTORY: Final = FOLDER / "history.jsonl"
RESULTS: Final = FOLDER / "RESULTS.md"
MARK: Final = "<!-- `make bench-publish` writes everything below this line. -->\n"


def read(lines: Iterable[str]) -> list[Entry]:
    return [Entry(**json.loads(line)) for line in lines if line.strip()]


def latest(entries: Iterable[Entry], *, machine: str, other_than: str) -> Entry | None:
    """Return the newest entry of the same machine and another commit."""
    found = [one for one in entries if one.machine == machine and one.commit != other_than]
    return found[-1] if found else None


def with_entry(entries: Iterable[Entry], new: Entry) -> list[Entry]:
    """Append an entry. It replaces that of the same commit and machine."""
    kept = [one for one in entries if (one.commit, one.machine) != (new.commit, new.machine)]
    return [*kept, new]


def entry(found: report.Report) -> Entry:
    measured = {verdict.target.text: verdict.measured for verdict in judged(found.results)}
    return Entry(
        commit=found.commit,
        date=found.date,
        machine=report.kind(found.machine),
        targets={text: float(f"{value:.4g}") for text, value in measured.items() if value is not None},
    )


def before(found: report.Report) -> Entry | None:
    """Return the published entry with which a run is compared."""
    entries = read(HISTORY.read_text().splitlines()) if HISTORY.exists() else []
    return latest(entries, machine=report.kind(found.machine), other_than=found.commit)


def published(page: str, tables: str, pictures: Iterable[str] = ()) -> str:
    """Replace what is below the mark; the page above is written by people and may show pictures, too."""
    above, mark, _ = page.partition(MARK)
    if not mark:
        raise ValueError(f"the page does not have the line {MARK.strip()}")
    missing = [one for one in pictures if f"pictures/{one}.png" not in above]
    shown = "".join(f"![{one}](pictures/{one}.png)\n\n" for one in missing)
    return above + mark + "\n" + shown + tables.removeprefix("# Results\n\n")


def main() -> None:
    results = Path(sys.argv[1] if len(sys.argv) > 1 else FOLDER / "out/results.json")
    found = report.read(json.loads(results.read_text()))
    if found.commit.endswith("-dirty"):
        sys.exit("bench-publish: the run was of a working tree with changes: commit, and measure again")
    earlier = before(found)
    known = read(HISTORY.read_text().splitlines()) if HISTORY.exists() else []
    entries = with_entry(known, entry(found))
    HISTORY.write_text("".join(json.dumps(asdict(one)) + "\n" for one in entries))
    pictures = sorted(results.parent.glob("*.png"))
    for picture in pictures:
        shutil.copy(picture, FOLDER / "pictures" / picture.name)
    tables = report.markdown(found, earlier)
    RESULTS.write_text(published(RESULTS.read_text(), tables, [picture.stem for picture in pictures]))


if __name__ == "__main__":
    main()
