"""How many CPUs this process may use: what `--workers auto` means."""

import math
import os
from pathlib import Path
from typing import Final

QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> int:
    """CPUs that the scheduler lets this process run on, at most what its container may use."""
    try:
        quota = QUOTA.read_text(encoding="ascii")
    except OSError:
        quota = ""
    return bounded_by_quota(len(os.sched_getaffinity(0)), quota)


def bounded_by_quota(cpus: int, quota: str) -> int:
    """`quota` as cgroups v2 write it: microseconds allowed, or `max`, of how many. 1.5 CPUs are 2."""
    allowed, _, period = quota.strip().partition(" ")
    if not (allowed.isdecimal() and period.isdecimal() and int(period)):
        return max(1, cpus)
    return max(1, min(cpus, math.ceil(int(allowed) / int(period))))
