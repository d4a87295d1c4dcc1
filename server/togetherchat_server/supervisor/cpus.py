"""The number of CPUs that this process may use: the value of `--workers auto`."""

import math
import os
from pathlib import Path
from typing import Final

QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> int:
    """Return the CPUs in the scheduler's mask, at most the container's quota."""
    try:
        quota = QUOTA.read_text(encoding="ascii")
    except OSError:
        quota = ""
    return bounded_by_quota(len(os.sched_getaffinity(0)), quota)


def bounded_by_quota(cpus: int, quota: str) -> int:
    """Apply a quota as cgroups v2 write it: microseconds allowed (or `max`) per period.

    A fraction is rounded up: 1.5 CPUs are 2.
    """
    allowed, _, period = quota.strip().partition(" ")
    if not (allowed.isdecimal() and period.isdecimal() and int(period)):
        return max(1, cpus)
    return max(1, min(cpus, math.ceil(int(allowed) / int(period))))
