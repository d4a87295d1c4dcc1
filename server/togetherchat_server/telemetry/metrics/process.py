"""Resource usage of this process, under the names that Prometheus's own clients use. Linux only.

Reading /proc takes a tenth of a millisecond. On other systems only CPU time and the limit on
open files are known.
"""

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.definitions import Key

SELF: Final = Path("/proc/self")


def cpu_s() -> float:
    """Return the user and system CPU time since the process started."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resource_usage(folder: Path = SELF) -> Mapping[Key, float]:
    """Return gauges of memory and open files, without those that cannot be read."""
    gauges: dict[Key, float] = {(names.PROCESS_MAX_FDS,): resource.getrlimit(resource.RLIMIT_NOFILE)[0]}
    try:
        virtual, resident, *_ = (folder / "statm").read_text(encoding="ascii").split()
        open_fds = sum(1 for _ in (folder / "fd").iterdir())
    except (OSError, ValueError):
        return gauges
    page_bytes = resource.getpagesize()
    gauges[names.PROCESS_VIRTUAL_MEMORY,] = int(virtual) * page_bytes
    gauges[names.PROCESS_RESIDENT_MEMORY,] = int(resident) * page_bytes
    gauges[names.PROCESS_OPEN_FDS,] = open_fds
    return gauges
