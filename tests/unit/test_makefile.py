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


def in_turn(folder, *words):
    """Run a copy of `make/in-turn` with targets that wait for files of each other."""
    script = folder / "make" / "in-turn"
    script.parent.mkdir()
    script.write_bytes((ROOT / "make" / "in-turn").read_bytes())
    script.chmod(0o755)
    wait = "@for _ in $$(seq 600); do test -e {} && exit; sleep 0.05; done; exit 1"
    (folder / "Makefile").write_text(
        f"one:\n\t@echo from one\n\t@touch one\n\t{wait.format('two')}\n"
        f"two:\n\t@echo from two\n\t@touch two\n\t{wait.format('one')}\n"
        "three:\n\t@echo from three\n\t@test -e two\n"
        "alone:\n\t@echo from alone\n"
        "broken:\n\t@echo from broken\n\t@exit 3\n",
        "utf-8",
    )
    return subprocess.run([script, *words], cwd=folder, capture_output=True, text=True, check=False)


def test_lists_of_targets_run_side_by_side_with_their_outputs_apart(tmp_path):
    """Each of the two targets waits for the other; what follows waits for both."""
    done = in_turn(tmp_path, "one | two", "three")

    assert 0 == done.returncode, done.stdout + done.stderr
    outputs = done.stdout.partition("=== output of: one ")[2].partition("=== output of:  two")
    assert ("from one" in outputs[0], "from two" in outputs[0]) == (True, False)
    assert "from two" in outputs[2]
    assert re.search(r"s  make one \| two\n +\d+ s  make three$", done.stdout.rstrip())


def test_a_failure_in_a_list_stops_the_run_after_the_other_list(tmp_path):
    """The other list runs to its end, and nothing after both."""
    done = in_turn(tmp_path, "broken three | alone", "help")

    assert 1 == done.returncode
    assert "make broken FAILED with status 2. Not run: three." in done.stdout
    assert "from alone" in done.stdout
    assert re.search(r"make broken three \| alone FAILED with status 1. Not run: help\.", done.stderr)
