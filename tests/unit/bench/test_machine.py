"""Processes and cores."""

import pytest
from bench import procfs
from bench.contestants import CONTESTANTS
from bench.cores import pinned, split
from bench.machine import cpu_model

STAT = "4242 (a (very) odd name) S 17 4242 4242 0 -1 4194560 100 0 0 0 150 25 7 8 20 0 3 0 1000 1 1"


def test_cpu_is_user_and_system_time():
    """Of the process itself, whatever its name looks like."""
    assert 175 == procfs.cpu_ticks(STAT)


def test_the_parent_is_found_behind_an_odd_name():
    """Spaces and brackets in a name move no field."""
    assert 17 == procfs.parent(STAT)


def test_a_family_is_all_that_a_process_started():
    """Children of children too, strangers not."""
    assert [1, 2, 3, 4] == procfs.descendants(1, {1: 0, 2: 1, 3: 1, 4: 2, 9: 8})


def test_resident_memory_is_read():
    """A process that has gone has none."""
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
def test_the_gateway_has_a_core_to_itself_where_there_are_two(available, gateway, pair, load):
    """And two workers have theirs where there are four."""
    cores = split(available)
    assert (gateway, pair, load) == (cores.gateway, cores.pair, cores.load)
    assert (len(available) > 1) == (not set(cores.gateway) & set(cores.load))
    assert (len(available) > 3) == cores.load_is_elsewhere


def test_a_machine_without_cores_is_refused():
    """There is nothing to measure on."""
    with pytest.raises(ValueError, match="no core"):
        split([])


def test_a_command_is_pinned():
    """By taskset, before it starts, so that runtimes that count cores see one."""
    assert ["taskset", "--cpu-list", "0,1", "x"] == pinned((0, 1), ["x"])


def test_the_cpu_is_named():
    """From the first of its cores."""
    assert "EPYC" == cpu_model("processor\t: 0\nmodel name\t: EPYC\nmodel name\t: other\n")


def test_contestants_have_names_of_their_own():
    """A name is the key of everything that is measured."""
    assert len(CONTESTANTS) == len({contestant.name for contestant in CONTESTANTS})


def test_peers_are_found_where_they_are_installed():
    """Whoever is not ours says what must be there before it is started."""
    peers = [one for one in CONTESTANTS if any("{installed}" in word for word in one.command)]
    assert all(one.needs and any(one.needs in word for word in one.command) for one in peers)
