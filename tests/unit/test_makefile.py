"""The Makefile: its targets run somewhere, the pages name targets that exist, the table of locks is whole."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
TEXT = "\n".join(part.read_text("utf-8") for part in PARTS)
TARGETS = set(re.findall(r"^([a-z0-9-]+):.*## ", TEXT, re.MULTILINE))
NAMED = re.compile(r"(?:^|`)make ([a-z][a-z0-9-]*)\b(?=[` ]*$| +#| +[A-Z]+=|`)", re.MULTILINE)
EVERY_CHANGE = (ROOT / ".ci" / "run").read_text("utf-8")


def test_help_lists_every_target_in_groups():
    """`make` alone prints each target once, below the heading of its file."""
    printed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  ([a-z0-9-]+) ", printed, re.MULTILINE)
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)

    assert sorted(TARGETS) == sorted(listed)
    assert 6 == len(headings)
    assert all(f"\n{heading}\n  " in printed for heading in headings)


def test_every_test_target_runs_for_each_change_or_in_test_all():
    """A target named test-... is in .ci/run or in `make test-all`, and all that they name exists."""
    each = set(re.findall(r"[a-z0-9-]+", EVERY_CHANGE.partition("make/in-turn ")[2]))
    every = set(re.search(r"^TEST_ALL := (.*)$", TEXT, re.MULTILINE)[1].split())

    assert set() == (each | every) - TARGETS
    assert set() == each & every
    assert set() == {one for one in TARGETS if one.startswith("test")} - {"test-all"} - each - every


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


def test_a_failure_stops_the_run_with_a_clear_line():
    """`make/in-turn` names the target that failed and those that did not run."""
    words = [ROOT / "make" / "in-turn", "help", "no-such-target", "help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert re.search(r"=== \d+ s: make no-such-target FAILED with status 2. Not run: help\.", done.stderr)
