"""Resource usage of the process, read from files."""

import os

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics import process


def test_memory_and_open_files_are_read_from_proc(tmp_path):
    """The kernel counts pages, the metrics bytes."""
    (tmp_path / "statm").write_text("300 20 5 1 0 40 0\n", encoding="ascii")
    (tmp_path / "fd").mkdir()
    for number in range(3):
        (tmp_path / "fd" / str(number)).touch()
    usage = process.resource_usage(tmp_path)
    page_bytes = os.sysconf("SC_PAGESIZE")

    assert (300 * page_bytes, 20 * page_bytes, 3) == tuple(
        usage[name,]
        for name in (names.PROCESS_VIRTUAL_MEMORY, names.PROCESS_RESIDENT_MEMORY, names.PROCESS_OPEN_FDS)
    )


def test_gauges_that_cannot_be_read_are_left_out(tmp_path):
    """Without /proc, the limit on open files and the CPU time are still known."""
    assert {(names.PROCESS_MAX_FDS,)} == set(process.resource_usage(tmp_path))
    assert process.cpu_s() > 0
