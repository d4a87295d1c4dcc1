"""The used fraction of a container's memory limit, read from files as the kernel writes them."""

import pytest

from togetherchat_server.runtime.memory import READ_INTERVAL_S, MemoryGauge, usage_ratio

STATISTICS = "anon 700\nfile 200\ninactive_file 100\nactive_file 100\n"
STATISTICS_1 = "cache 200\ninactive_file 0\ntotal_cache 200\ntotal_inactive_file 100\n"
NO_LIMIT_1 = {4096: "9223372036854771712", 65536: "9223372036854710272"}


def group(folder, *, limit="1000", current="800", statistics=STATISTICS):
    """Write the files of a control group of version 2."""
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(current + "\n")
    (folder / "memory.stat").write_text(statistics)
    return folder


def group_1(folder, *, limit="1000", current="800", statistics=STATISTICS_1):
    """Write the files of a control group of version 1: memory has a folder of its own."""
    memory = folder / "memory"
    memory.mkdir(exist_ok=True)
    (memory / "memory.limit_in_bytes").write_text(limit + "\n")
    (memory / "memory.usage_in_bytes").write_text(current + "\n")
    (memory / "memory.stat").write_text(statistics)
    return folder


@pytest.mark.parametrize("write", [group, group_1])
def test_the_inactive_file_cache_does_not_count(tmp_path, write):
    """The kernel frees it on demand, in either version of control groups."""
    assert 0.7 == usage_ratio(write(tmp_path))


@pytest.mark.parametrize("write", [group, group_1])
@pytest.mark.parametrize(
    "changed",
    [
        {"limit": "max"},
        {"limit": "0"},
        {"current": "?"},
        *({"limit": limit} for limit in NO_LIMIT_1.values()),
    ],
)
def test_without_a_limit_there_is_no_ratio(tmp_path, write, changed):
    """The same holds for a limit of 0 and for files that are not numbers."""
    assert None is usage_ratio(write(tmp_path, **changed))


def test_version_2_is_read_where_both_versions_are_mounted(tmp_path):
    """A machine that migrates between the versions limits memory in one of them."""
    group_1(group(tmp_path), current="1000")

    assert 0.7 == usage_ratio(tmp_path)


def test_without_a_control_group_there_is_no_ratio(tmp_path):
    """A machine without control groups has no limit."""
    assert None is usage_ratio(tmp_path)


def test_the_gauge_reports_pressure_from_the_ratio_on(tmp_path):
    """At the ratio itself and above."""
    group(tmp_path)

    assert [True, True, False] == [
        MemoryGauge(shed_ratio=shed_ratio, clock=lambda: 0.0, folder=tmp_path).under_pressure()
        for shed_ratio in (0.6, 0.7, 0.71)
    ]


def test_the_files_are_read_at_most_twice_a_second(tmp_path):
    """Calls in between get the last result."""
    now = [0.0]
    gauge = MemoryGauge(shed_ratio=0.9, clock=lambda: now[0], folder=group(tmp_path))
    before = gauge.under_pressure()
    group(tmp_path, current="1050")
    within = gauge.under_pressure()
    now[0] = READ_INTERVAL_S

    assert (False, False, True) == (before, within, gauge.under_pressure())
