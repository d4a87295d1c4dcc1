"""CPU time and memory of processes and their children, from /proc.

Knows nothing of the benchmark. Parsing and reading are separate functions, so that tests need no /proc.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")


def fields_after_name(stat: str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on: the name before may hold spaces and brackets."""
    return stat.rpartition(")")[2].split()


def cpu_ticks(stat: str) -> int:
    """Return user and system time of the process whose line of /proc/PID/stat is `stat`."""
    fields = fields_after_name(stat)
    return int(fields[11]) + int(fields[12])


def parent(stat: str) -> int:
    return int(fields_after_name(stat)[1])


def resident_kib(status: str) -> int:
    """Return VmRSS of the text of /proc/PID/status; 0 for a process that has ended."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def descendants(root: int, parents: Mapping[int, int]) -> list[int]:
    """Return `root` and all processes that it started, directly or indirectly."""
    found = [root]
    for pid in found:
        found.extend(child for child, parent_pid in parents.items() if parent_pid == pid)
    return found


def tree(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (stat := _read(folder / "stat")):
            parents[int(folder.name)] = parent(stat)
    return [pid for pid in descendants(root, parents) if pid in parents]


def cpu_s_by_process(root: int) -> dict[int, float]:
    lines = {pid: _read(PROC / str(pid) / "stat") for pid in tree(root)}
    return {pid: cpu_ticks(stat) / TICKS_PER_S for pid, stat in lines.items() if stat}


def cpu_s(root: int) -> float:
    return sum(cpu_s_by_process(root).values())


def resident_mib(root: int) -> float:
    return sum(resident_kib(_read(PROC / str(pid) / "status")) for pid in tree(root)) / 1024


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
