"""The CPUs that this process may use."""

import math
import os
from pathlib import Path
from typing import Final

QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> int:
    """Return the value of `--workers auto`: a fraction of a CPU is rounded up, so 1.5 CPUs are 2."""
    return max(1, math.ceil(cpu_capacity()))


def cpu_capacity() -> float:
    """Return the CPUs in the scheduler's mask, at most the container's quota."""
    try:
        quota = QUOTA.read_text(encoding="ascii")
    except OSError:
        quota = ""
    return bounded_by_quota(len(os.sched_getaffinity(0)), quota)


def bounded_by_quota(cpus: int, quota: str) -> float:
    """Apply a quota as cgroups v2 write it: microseconds allowed (or `max`) per period."""
    allowed, _, period = quota.strip().partition(" ")
    if not (allowed.isdecimal() and period.isdecimal() and int(allowed) and int(period)):
        return max(1, cpus)
    return min(max(1, cpus), int(allowed) / int(period))
