"""Rows that wait for the database: in files, in memory, and without room."""

import pytest

from support.usage import usage_row
from togetherchat_server.usage import backlog as module
from togetherchat_server.usage.backlog import Backlog
from togetherchat_server.usage.spill_folder import SpillFolder


@pytest.fixture
def folder(tmp_path):
    folder = SpillFolder(tmp_path)
    yield folder
    folder.close()


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def backlog(folder, now):
    backlog = Backlog(folder, clock=lambda: now[0])
    yield backlog
    backlog.close()


def rows(start, number):
    return [usage_row(index) for index in range(start, start + number)]


def taken(backlog):
    """Take all groups; return the rows of each."""
    groups = []
    while (group := backlog.first()) is not None:
        groups.append(group.rows)
        backlog.remove(group)
    return groups


def test_rows_come_in_order_and_in_groups_that_the_database_takes_at_once(backlog, folder):
    """Their files are removed."""
    for start in range(0, 2_000, 100):
        backlog.add(rows(start, 100))
    waiting = (backlog.rows, backlog.rows_in_files)
    groups = taken(backlog)

    assert (2_000, 2_000) == waiting
    assert [500] * 4 == [len(group) for group in groups]
    assert rows(0, 2_000) == [row for group in groups for row in group]
    assert (0, 0, 0) == (backlog.rows, backlog.rows_in_files, backlog.oldest_age_s())
    assert ["counts"] == [path.name for path in folder.path.iterdir()]


def test_many_rows_are_not_kept_in_memory_too(backlog):
    """They are read again."""
    backlog.add(rows(0, 20_000))
    in_memory = sum(len(group.rows or ()) for group in backlog._groups)

    assert in_memory <= 500 * (module.READ_AGAIN_AFTER + 2)
    assert rows(0, 20_000) == [row for group in taken(backlog) for row in group]


def test_the_age_is_that_of_the_oldest_row(backlog, now):
    """On the clock of the process."""
    backlog.add(rows(0, 1))
    now[0] += 5
    backlog.add(rows(1, 1))
    now[0] += 2

    assert 7 == backlog.oldest_age_s()


def test_without_a_folder_rows_wait_in_memory_up_to_a_bound(now, monkeypatch):
    """Newer ones are dropped and counted."""
    monkeypatch.setattr(module, "MEMORY_ROWS_MAX", 700)
    backlog = Backlog(None, clock=lambda: now[0])
    backlog.add(rows(0, 900))
    backlog.add(rows(900, 10))

    assert (700, 0, 210) == (backlog.rows, backlog.rows_in_files, backlog.dropped)
    assert rows(0, 700) == [row for group in taken(backlog) for row in group]


def test_files_have_a_bound_and_then_memory_is_used(backlog, monkeypatch):
    """In order, without a gap."""
    monkeypatch.setattr(module, "SPILL_BYTES_MAX", 100_000)
    monkeypatch.setattr(module, "MEMORY_ROWS_MAX", 400)
    for start in range(0, 1_000, 50):
        backlog.add(rows(start, 50))
    found = [row for group in taken(backlog) for row in group]

    assert backlog.dropped > 0
    assert rows(0, len(found)) == found
    assert 1_000 == len(found) + backlog.dropped


def test_a_folder_that_disappears_costs_no_row(backlog, folder, caplog):
    """Rows wait in memory; the log says so once."""
    backlog.add(rows(0, 10))
    for path in folder.path.iterdir():
        path.unlink()
    folder.path.rmdir()
    first = backlog.first()
    backlog.add(rows(10, 10))
    backlog.add(rows(20, 10))

    assert rows(0, 10) == first.rows
    assert rows(0, 30) == [row for group in taken(backlog) for row in group]
    assert 1 == caplog.text.count("rows wait in memory")


def test_a_file_that_cannot_be_read_is_counted(backlog, folder):
    """The rows of the others follow."""
    backlog.add(rows(0, 10_000))
    ninth = sorted(folder.path.glob("rows-*"))[12]
    ninth.unlink()
    found = [row for group in taken(backlog) for row in group]

    assert (9_500, 500) == (len(found), backlog.damaged)


def test_files_of_another_process_come_first(backlog, tmp_path, folder):
    """They are older."""
    other = SpillFolder(tmp_path)
    left = Backlog(other, clock=lambda: 0.0)
    left.add(rows(0, 700))
    left.close()
    other.close()
    backlog.add(rows(700, 5))
    for adoption in folder.adopt():
        backlog.adopt(adoption.files)

    assert 705 == backlog.rows == backlog.rows_in_files
    assert rows(0, 705) == [row for group in taken(backlog) for row in group]
