"""The Makefile: the pages name targets that exist, the table of locks is whole."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
TEXT = "\n".join(part.read_text("utf-8") for part in PARTS)
TARGETS = set(re.findall(r"^([a-z0-9-]+):.*## ", TEXT, re.MULTILINE))
NAMED = re.compile(r"(?:^|`)make ([a-z][a-z0-9-]*)\b(?=[` ]*$| +#| +[A-Z]+=|`)", re.MULTILINE)


def make(*words):
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_help_lists_every_target_in_groups():
    """`make` alone prints each target once, below the heading of its file."""
    listed = re.findall(r"^  ([a-z0-9-]+) ", make(), re.MULTILINE)
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)

    assert sorted(TARGETS) == sorted(listed)
    assert 6 == len(headings)
    assert all(f"\n{heading}\n  " in make() for heading in headings)


def test_pages_name_targets_that_exist():
    """Every `make TARGET` in a page, at the start of a line of code or in backticks."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    pages = listed.stdout.split()
    named = {(page, target) for page in pages for target in NAMED.findall((ROOT / page).read_text("utf-8"))}

    assert len(named) > 20
    assert [] == sorted(each for each in named if each[1] not in TARGETS)


def test_the_table_of_locks_is_whole():
    """`make lock` renews every lock, each from inputs of its own."""
    compiled = re.findall(r"^\t\$\(LOCK\) (\S+)", TEXT, re.MULTILINE)
    locks = [*ROOT.glob("requirements/*.txt"), *ROOT.glob("bench/requirements/*.txt")]

    assert sorted(str(lock.relative_to(ROOT)) for lock in locks) == sorted(compiled)
