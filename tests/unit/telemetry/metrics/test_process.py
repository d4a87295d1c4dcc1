"""What the process uses, read from files."""

import os

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics import process


def test_memory_and_files_are_those_of_the_files(tmp_path):
    """Pages are counted there, bytes here."""
    (tmp_path / "statm").write_text("300 20 5 1 0 40 0\n", encoding="ascii")
    (tmp_path / "fd").mkdir()
    for number in range(3):
        (tmp_path / "fd" / str(number)).touch()
    used = process.in_use(tmp_path)
    page_bytes = os.sysconf("SC_PAGESIZE")

    assert (300 * page_bytes, 20 * page_bytes, 3) == tuple(
        used[name,] for name in (names.VIRTUAL, names.RESIDENT, names.FILES)
    )


def test_what_cannot_be_read_is_left_out(tmp_path):
    """No /proc: the bound on files is known all the same, and the CPU."""
    assert {(names.FILES_MAX,)} == set(process.in_use(tmp_path))
    assert process.cpu_s() > 0
