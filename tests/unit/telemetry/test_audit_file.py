"""The file of the audit log: rotation, full disks, and lines of several processes."""

import json
import logging
import multiprocessing
import os
import stat

import pytest

from togetherchat_server.telemetry.audit_file import CHECK_EVERY_S, AuditFile


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def file(path, clock):
    opened = AuditFile(str(path), clock=clock)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


def test_a_new_file_can_be_read_by_its_owner_only(file, path):
    """The lines are for operators."""
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_an_existing_file_keeps_its_lines_and_its_mode(path):
    """A restart continues the file that logrotate created."""
    path.write_text("before\n")
    path.chmod(0o640)
    file = AuditFile(str(path))
    file.write("after\n")
    file.close()

    assert ("before\nafter\n", 0o640) == (path.read_text(), stat.S_IMODE(path.stat().st_mode))


@pytest.mark.parametrize("created", [False, True], ids=["missing", "created by logrotate"])
def test_a_renamed_file_is_opened_anew_within_a_second(file, path, clock, created):
    """Until then lines go to the renamed file: none is lost."""
    file.write("1\n")
    path.rename(path.with_suffix(".1"))
    if created:
        path.touch()
    file.write("2\n")
    clock.now_s += CHECK_EVERY_S
    file.write("3\n")

    assert ("1\n2\n", "3\n") == (path.with_suffix(".1").read_text(), path.read_text())


def test_a_removed_file_is_opened_anew_at_once(file, path):
    """Lines that are written to a file without a name are lost."""
    file.write("1\n")
    path.unlink()
    file.write("2\n")

    assert "2\n" == path.read_text()


def test_a_truncated_file_is_written_from_its_start(file, path):
    """logrotate's `copytruncate`: an append goes to the end of the file, which is its start."""
    file.write("1\n")
    os.truncate(path, 0)
    file.write("2\n")

    assert b"2\n" == path.read_bytes()


def test_a_renamed_file_is_kept_while_no_new_one_can_be_opened(file, path, clock, caplog):
    """The warning names the problem once for each rotation, and nothing is dropped."""
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    for number in range(3):
        clock.now_s += CHECK_EVERY_S
        file.write(f"{number}\n")

    assert ("0\n1\n2\n", 0) == (path.with_suffix(".1").read_text(), file.dropped)
    (warning,) = caplog.messages
    assert f"audit log {path}: cannot be opened anew (Is a directory)" in warning
    path.rmdir()
    clock.now_s += CHECK_EVERY_S
    file.write("3\n")
    path.rename(path.with_suffix(".2"))
    path.mkdir()
    clock.now_s += CHECK_EVERY_S
    file.write("4\n")
    assert [warning, warning] == caplog.messages


def test_lines_without_a_place_are_dropped_and_counted_until_there_is_one(file, path, clock, caplog):
    """The file was removed and cannot be created. One warning, and one message when it is written again."""
    path.unlink()
    path.mkdir()
    for number in range(3):
        file.write(f"{number}\n")
    path.rmdir()
    file.write("3\n")
    clock.now_s += CHECK_EVERY_S
    file.write("4\n")

    assert ("4\n", 4) == (path.read_text(), file.dropped)
    warning, recovery = caplog.messages
    assert "cannot be written (Is a directory); lines are dropped" in warning
    assert "is written again; 4 lines are lost" in recovery


def test_a_full_disk_drops_and_counts_lines_with_one_warning(caplog):
    """`/dev/full` fails every write with ENOSPC."""
    file = AuditFile("/dev/full")
    for number in range(3):
        file.write(f"{number}\n")
    file.close()

    assert 3 == file.dropped
    (warning,) = caplog.messages
    assert "audit log /dev/full: cannot be written (No space left on device)" in warning


def test_a_disk_on_which_some_lines_fit_writes_two_warnings_a_second(file, clock, monkeypatch, caplog):
    """One when a line is dropped, and one with the number of the dropped lines."""
    raw = file._file
    for number in range(10):
        monkeypatch.setattr(file, "_file", Cutting(raw) if number % 2 else raw)
        file.write(f'{{"number": {number}}}\n')
    clock.now_s += CHECK_EVERY_S
    monkeypatch.setattr(file, "_file", raw)
    file.write("last\n")

    dropped, recovery = caplog.messages
    assert "lines are dropped" in dropped
    assert "is written again; 5 lines are lost" in recovery


def test_a_line_after_a_cut_line_begins_on_a_line_of_its_own(file, path, monkeypatch):
    """A disk that is nearly full accepts a part of a line. The cut line counts as dropped."""
    raw = file._file
    monkeypatch.setattr(file, "_file", Cutting(raw))
    file.write('{"cut": 1}\n')
    monkeypatch.setattr(file, "_file", raw)
    file.write('{"whole": 2}\n')

    assert '{"cut\n{"whole": 2}\n' == path.read_text()
    assert 1 == file.dropped


class Cutting:
    """Accepts five bytes of each write."""

    def __init__(self, raw):
        self.raw = raw

    def fileno(self):
        return self.raw.fileno()

    def write(self, data):
        return self.raw.write(data[:5])


def test_standard_error_is_a_descriptor_of_its_own(capfd):
    """Closing the audit log does not close standard error."""
    file = AuditFile("stderr")
    file.write("line\n")
    file.close()
    os.write(2, b"still open\n")

    assert "line\nstill open\n" == capfd.readouterr().err


@pytest.mark.parametrize(
    ("target", "problem"),
    [("{folder}/no/audit.jsonl", FileNotFoundError), ("{folder}", IsADirectoryError)],
)
def test_a_file_that_cannot_be_opened_is_an_error_at_the_start(tmp_path, target, problem):
    """A missing folder is not created."""
    with pytest.raises(problem):
        AuditFile(target.format(folder=tmp_path))


def test_a_named_pipe_without_a_reader_does_not_block_the_start(tmp_path):
    """The open fails instead."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="No such device"):
        AuditFile(str(tmp_path / "pipe"))


def _write_lines(path, writer):
    file = AuditFile(path)
    for number in range(300):
        file.write(json.dumps({"writer": writer, "number": number, "text": "x" * number}) + "\n")
    file.close()


def test_lines_of_several_processes_are_whole(path):
    """Each line is one write in append mode."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_lines, args=(str(path), writer)) for writer in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for writer in range(2):
        assert list(range(300)) == [line["number"] for line in lines if line["writer"] == writer]


def test_each_line_is_one_write(file, path, monkeypatch):
    """So another process cannot write into the middle of it."""
    sizes = []
    raw = file._file

    class Counting(Cutting):
        def write(self, data):
            sizes.append(len(data))
            return self.raw.write(data)

    monkeypatch.setattr(file, "_file", Counting(raw))
    file.write("x" * 100_000 + "\n")

    assert [100_001] == sizes
