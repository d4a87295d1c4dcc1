import pytest

from togetherchat_server.memory import READ_EVERY_S, MemoryGauge, share_in_use

STATISTICS = "anon 700\nfile 200\ninactive_file 100\nactive_file 100\n"


def group(folder, *, limit="1000", current="800", statistics=STATISTICS):
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(current + "\n")
    (folder / "memory.stat").write_text(statistics)
    return folder


def test_the_share_is_what_the_kernel_would_not_give_back(tmp_path):
    """The file cache that is not in use does not count."""
    assert 0.7 == share_in_use(group(tmp_path))


@pytest.mark.parametrize("changed", [{"limit": "max"}, {"limit": "0"}, {"current": "?"}])
def test_without_a_limit_there_is_no_share(tmp_path, changed):
    """No limit, or figures that are none: nothing is refused for it."""
    assert None is share_in_use(group(tmp_path, **changed))


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
