"""Assigns cores: one to the gateway, the others to the load and the upstream."""

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """`gateway`: one core; `pair`: the cores of two workers; `load`: the cores of everything else."""

    gateway: tuple[int, ...]
    pair: tuple[int, ...]
    load: tuple[int, ...]

    @property
    def load_is_elsewhere(self) -> bool:
        """Return whether no load runs on the cores of two workers."""
        return not set(self.pair) & set(self.load)


def split(available: Sequence[int]) -> Cores:
    """Give the last cores to the gateway: the first ones often serve the machine's interrupts."""
    match available:
        case []:
            raise ValueError("no core to run on")
        case [only]:
            return Cores(gateway=(only,), pair=(only,), load=(only,))
        case [first, second] | [first, _, second]:
            return Cores(gateway=(second,), pair=(first, second), load=(first,))
        case [*load, first, second]:
            return Cores(gateway=(second,), pair=(first, second), load=tuple(load))
        case _:
            raise ValueError("cores must be a list")


def of_this_machine() -> Cores:
    return split(sorted(os.sched_getaffinity(0)))


def pinned(cores: Sequence[int], command: Sequence[str]) -> list[str]:
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


def patient(command: Sequence[str]) -> list[str]:
    """Run a command that does not interrupt another program of its core when data arrives for it.

    Without this the load preempts the upstream at every token, and each token costs two context switches.
    """
    return ["chrt", "--batch", "0", *command]
