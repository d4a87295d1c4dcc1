"""The share of a container's memory that is in use, by files as the kernel writes them."""

import pytest

from togetherchat_server.runtime.memory import READ_EVERY_S, MemoryGauge, share_in_use

STATISTICS = "anon 700\nfile 200\ninactive_file 100\nactive_file 100\n"


STATISTICS_1 = "cache 200\ninactive_file 0\ntotal_cache 200\ntotal_inactive_file 100\n"
NO_LIMIT_1 = {4096: "9223372036854771712", 65536: "9223372036854710272"}


def group(folder, *, limit="1000", current="800", statistics=STATISTICS):
    """A control group of version 2."""
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(current + "\n")
    (folder / "memory.stat").write_text(statistics)
    return folder


def group_1(folder, *, limit="1000", current="800", statistics=STATISTICS_1):
    """One of version 1: a folder for memory among others."""
    memory = folder / "memory"
    memory.mkdir(exist_ok=True)
    (memory / "memory.limit_in_bytes").write_text(limit + "\n")
    (memory / "memory.usage_in_bytes").write_text(current + "\n")
    (memory / "memory.stat").write_text(statistics)
    return folder


@pytest.mark.parametrize("made", [group, group_1])
def test_the_share_is_what_the_kernel_would_not_give_back(tmp_path, made):
    """The file cache that is not in use does not count, in either version of control groups."""
    assert 0.7 == share_in_use(made(tmp_path))


@pytest.mark.parametrize("made", [group, group_1])
@pytest.mark.parametrize(
    "changed",
    [{"limit": "max"}, {"limit": "0"}, {"current": "?"}, *({"limit": one} for one in NO_LIMIT_1.values())],
)
def test_without_a_limit_there_is_no_share(tmp_path, made, changed):
    """No limit, or figures that are none: nothing is refused for it."""
    assert None is share_in_use(made(tmp_path, **changed))


def test_where_there_are_both_versions_the_second_counts(tmp_path):
    """A machine on its way from one to the other limits by one of them."""
    group_1(group(tmp_path), current="1000")

    assert 0.7 == share_in_use(tmp_path)


def test_without_a_control_group_there_is_no_share(tmp_path):
    """On a machine without control groups the gauge says nothing."""
    assert None is share_in_use(tmp_path)


def test_the_gauge_says_when_the_bound_is_reached(tmp_path):
    """At the share itself and above."""
    group(tmp_path)

    assert [True, True, False] == [
        MemoryGauge(share_max=share_max, clock=lambda: 0.0, folder=tmp_path).short()
        for share_max in (0.6, 0.7, 0.71)
    ]


def test_the_figures_are_read_twice_a_second_at_most(tmp_path):
    """Each call asks; the files are read now and then."""
    now = [0.0]
    gauge = MemoryGauge(share_max=0.9, clock=lambda: now[0], folder=group(tmp_path))
    before = gauge.short()
    group(tmp_path, current="1050")
    within = gauge.short()
    now[0] = READ_EVERY_S

    assert (False, False, True) == (before, within, gauge.short())
