"""What the process itself uses, under the names that Prometheus's own clients give it. Linux.

Read from /proc in a tenth of a millisecond, when somebody asks. Elsewhere only the CPU is known.
"""

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.store import Key

SELF: Final = Path("/proc/self")


def cpu_s() -> float:
    """User and system time since the process began."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def in_use(folder: Path = SELF) -> Mapping[Key, float]:
    """Memory and files; what cannot be read is left out."""
    found: dict[Key, float] = {(names.FILES_MAX,): resource.getrlimit(resource.RLIMIT_NOFILE)[0]}
    try:
        virtual, resident, *_ = (folder / "statm").read_text(encoding="ascii").split()
        files = sum(1 for _ in (folder / "fd").iterdir())
    except (OSError, ValueError):
        return found
    page_bytes = resource.getpagesize()
    found[names.VIRTUAL,] = int(virtual) * page_bytes
    found[names.RESIDENT,] = int(resident) * page_bytes
    found[names.FILES,] = files
    return found
