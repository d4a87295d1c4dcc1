"""Which core a gateway gets and which ones the load and the upstream share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """`gateway` is one core, `pair` are those of two workers, `load` those of everything else."""

    gateway: tuple[int, ...]
    pair: tuple[int, ...]
    load: tuple[int, ...]

    @property
    def load_is_elsewhere(self) -> bool:
        """Whether two workers have both of their cores to themselves."""
        return not set(self.pair) & set(self.load)


def split(available: Sequence[int]) -> Cores:
    """The last cores are the gateway's: the first of a machine often serve its interrupts."""
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
