"""Tests of process statistics, cores and contestants."""

import pytest
from bench import procfs
from bench.contestants import CONTESTANTS
from bench.cores import pinned, split
from bench.machine import cpu_model

STAT = "4242 (a (very) odd name) S 17 4242 4242 0 -1 4194560 100 0 0 0 150 25 7 8 20 0 3 0 1000 1 1"


def test_cpu_time_is_user_plus_system_time():
    """A process name with spaces and brackets does not shift the fields."""
    assert 175 == procfs.cpu_ticks(STAT)


def test_parent_is_parsed_after_a_name_with_brackets():
    """Spaces and brackets in a name do not shift the fields."""
    assert 17 == procfs.parent(STAT)


def test_descendants_include_grandchildren():
    """`descendants` returns children and their children, and no unrelated process."""
    assert [1, 2, 3, 4] == procfs.descendants(1, {1: 0, 2: 1, 3: 1, 4: 2, 9: 8})


def test_resident_memory_is_parsed():
    """The result is VmRSS, and 0 for a process that has ended."""
    assert 2048 == procfs.resident_kib("Name:\tx\nVmRSS:\t    2048 kB\n")
    assert 0 == procfs.resident_kib("")


@pytest.mark.parametrize(
    ("available", "gateway", "pair", "load"),
    [
        ([0], (0,), (0,), (0,)),
        ([0, 1], (1,), (0, 1), (0,)),
        ([0, 1, 2], (2,), (0, 2), (0,)),
        ([0, 1, 2, 3], (3,), (2, 3), (0, 1)),
    ],
)
def test_the_gateway_has_its_own_core_if_there_are_two(available, gateway, pair, load):
    """Two workers have cores of their own if there are four."""
    cores = split(available)
    assert (gateway, pair, load) == (cores.gateway, cores.pair, cores.load)
    assert (len(available) > 1) == (not set(cores.gateway) & set(cores.load))
    assert (len(available) > 3) == cores.load_is_elsewhere


def test_no_cores_raise_value_error():
    """An empty list of cores is rejected."""
    with pytest.raises(ValueError, match="no core"):
        split([])


def test_a_command_is_pinned_with_taskset():
    """taskset pins the command before it starts, so that runtimes that count cores see one."""
    assert ["taskset", "--cpu-list", "0,1", "x"] == pinned((0, 1), ["x"])


def test_cpu_model_is_the_name_of_the_first_core():
    """`cpu_model` returns the model name of the first core."""
    assert "EPYC" == cpu_model("processor\t: 0\nmodel name\t: EPYC\nmodel name\t: other\n")


def test_contestant_names_are_unique():
    """Samples are keyed by the name of the contestant."""
    assert len(CONTESTANTS) == len({contestant.name for contestant in CONTESTANTS})


def test_installed_peers_name_the_file_they_need():
    """A contestant that `make bench` installs names a file of its command that must exist."""
    peers = [one for one in CONTESTANTS if any("{installed}" in word for word in one.command)]
    assert all(one.needs and any(one.needs in word for word in one.command) for one in peers)
