"""The fraction of the container's memory limit that is in use.

Reads the files of the control group, version 2 or else version 1. The inactive file cache is not
counted, because the kernel frees it on demand; the kubelet computes the same number. Without a limit
there is no fraction. The files are read at most twice a second.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

CONTROL_GROUP: Final = Path("/sys/fs/cgroup")
READ_INTERVAL_S: Final = 0.5
NO_LIMIT_BYTES: Final = 2**62
"""Version 1 writes "no limit" as 2**63, rounded down to a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _MemoryFiles:
    """The files of one version, and the name of the inactive file cache in its statistics."""

    limit: str
    used: str
    statistics: str
    inactive_cache: str


VERSION_2: Final = _MemoryFiles(
    limit="memory.max", used="memory.current", statistics="memory.stat", inactive_cache="inactive_file"
)
# `memory.usage_in_bytes` includes child groups, which `inactive_file` of version 1 does not.
VERSION_1: Final = _MemoryFiles(
    limit="memory/memory.limit_in_bytes",
    used="memory/memory.usage_in_bytes",
    statistics="memory/memory.stat",
    inactive_cache="total_inactive_file",
)


@final
class MemoryGauge:
    """Reports whether memory usage has reached `shed_ratio` of the limit."""

    def __init__(
        self, *, shed_ratio: float, clock: Callable[[], float], folder: Path = CONTROL_GROUP
    ) -> None:
        self._shed_ratio = shed_ratio
        self._clock = clock
        self._folder = folder
        self._read_s = float("-inf")
        self._under_pressure = False

    def under_pressure(self) -> bool:
        """Return whether new calls should be rejected."""
        now_s = self._clock()
        if now_s - self._read_s >= READ_INTERVAL_S:
            self._read_s = now_s
            ratio = usage_ratio(self._folder)
            self._under_pressure = ratio is not None and ratio >= self._shed_ratio
        return self._under_pressure


def usage_ratio(folder: Path) -> float | None:
    """Return used memory as a fraction of the limit; None without a limit or a control group."""
    for files in (VERSION_2, VERSION_1):
        try:
            limit = (folder / files.limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        try:
            return _ratio(folder, files, limit)
        except (OSError, ValueError, ZeroDivisionError):
            return None
    return None


def _ratio(folder: Path, files: _MemoryFiles, limit: str) -> float | None:
    if limit == "max" or int(limit) >= NO_LIMIT_BYTES:
        return None
    used = int((folder / files.used).read_text(encoding="ascii"))
    statistics = (folder / files.statistics).read_text(encoding="ascii")
    return max(0, used - _statistic(statistics, files.inactive_cache)) / int(limit)


def _statistic(statistics: str, wanted: str) -> int:
    for line in statistics.splitlines():
        name, _, value = line.partition(" ")
        if name == wanted:
            return int(value)
    return 0
