"""Folders of processes: who owns one, and what the next process finds in it."""

import subprocess
import sys

import pytest

from support.command import ROOTS
from support.usage import usage_row
from togetherchat_server.usage.process_counts import LastCounts, ProcessCounts
from togetherchat_server.usage.spill import encode
from togetherchat_server.usage.spill_folder import COUNTS, SpillFolder

LEAVE_ROWS = """
import os, sys
from pathlib import Path
from togetherchat_server.usage.spill_folder import SpillFolder
folder = SpillFolder(Path(sys.argv[1]))
for number, text in enumerate(sys.argv[4:], 1):
    path, file = folder.create_file(number)
    file.write(text.encode())
folder.counts.set_recorded(int(sys.argv[2]))
folder.counts.set_in_flight(2)
if sys.argv[3] != "0":
    folder.counts.set_handled(1, through=int(sys.argv[3]))
os.kill(os.getpid(), 9)
"""


def killed_process(root, *files, recorded, through=0):
    """Run a process that writes these files, counts, and is killed. `through` is the last file in the database."""
    texts = [encode(rows).decode() if isinstance(rows, list) else rows for rows in files]
    command = [sys.executable, "-c", LEAVE_ROWS, str(root), str(recorded), str(through), *texts]
    done = subprocess.run(command, env={"PYTHONPATH": ":".join(ROOTS)}, check=False)
    assert -9 == done.returncode


@pytest.fixture
def folder(tmp_path):
    folder = SpillFolder(tmp_path)
    yield folder
    folder.close()


def test_the_folder_of_a_living_process_is_left_alone(folder, tmp_path):
    """Its lock says that it lives."""
    other = SpillFolder(tmp_path)

    assert [] == list(other.adopt())
    other.close()


def test_the_files_of_a_killed_process_are_taken_over_in_order(folder, tmp_path):
    """With the number of rows that were in memory only."""
    killed_process(tmp_path, [usage_row(1), usage_row(2)], [usage_row(3)], recorded=7)
    (found,) = folder.adopt()

    assert [2, 1] == [file.rows for file in found.files]
    assert (4, 2) == (found.lost, found.in_flight)
    assert [] == list(folder.adopt())
    assert {folder.path.name, f"{folder.path.name}.lock"} == {path.name for path in tmp_path.iterdir()}


def test_a_row_in_the_database_whose_file_remained_is_not_lost(folder, tmp_path):
    """The process was killed between the commit and the removal of the file."""
    killed_process(tmp_path, [usage_row(1)], [usage_row(2)], recorded=3, through=1)
    (found,) = folder.adopt()

    assert 1 == found.lost
    assert 2 == len(found.files)


def test_an_incomplete_last_line_is_a_lost_row(folder, tmp_path):
    """The call was recorded."""
    killed_process(tmp_path, encode([usage_row(1), usage_row(2)]).decode()[:-5], recorded=2)
    (found,) = folder.adopt()

    assert ([1], 1) == ([file.rows for file in found.files], found.lost)


def test_damaged_counts_do_not_hide_the_rows(folder, tmp_path):
    """The lost ones are then the damaged lines."""
    killed_process(tmp_path, encode([usage_row(1)]).decode() + "damaged\n", recorded=2)
    (counts,) = set(tmp_path.glob(f"*/{COUNTS}")) - {folder.path / COUNTS}
    counts.write_bytes(b"nonsense")
    (found,) = folder.adopt()

    assert ([1], 1) == ([file.rows for file in found.files], found.lost)


def test_what_was_taken_over_can_be_taken_over_again(tmp_path):
    """The second process is killed, too, before it wrote anything to the database."""
    killed_process(tmp_path, [usage_row(1)], [usage_row(2), usage_row(3)], recorded=3)
    second = SpillFolder(tmp_path)
    (found,) = second.adopt()
    second.close()
    third = SpillFolder(tmp_path)
    (again,) = third.adopt()
    third.close()

    assert [1, 2] == [file.rows for file in found.files] == [file.rows for file in again.files]
    assert 0 == again.lost


def test_a_folder_without_rows_is_removed(tmp_path):
    """At the end of its process."""
    SpillFolder(tmp_path).close()

    assert [] == list(tmp_path.iterdir())


def test_counts_are_read_as_they_were_set(tmp_path):
    """Each number in its place."""
    counts = ProcessCounts(tmp_path / COUNTS)
    counts.set_recorded(2**40)
    counts.set_dropped(1)
    counts.set_handled(2, through=3)
    counts.set_in_flight(4)
    counts.close()

    assert LastCounts(recorded=2**40, dropped=1, handled=2, through=3, in_flight=4) == LastCounts.read(
        tmp_path / COUNTS
    )
    assert 2**40 - 1 - 2 - 5 == LastCounts.read(tmp_path / COUNTS).lost(found=5)
    assert None is LastCounts.read(tmp_path / "missing")
