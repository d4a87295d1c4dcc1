"""How much of the memory that this container may use is in use.

Reads the control group's own figures, of version 2 or else of version 1. Memory that the kernel
would give back at once, the file cache, does not count: the kubelet counts the same way. Where there
is no limit there is no share. The figures are read at most twice a second.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

CONTROL_GROUP: Final = Path("/sys/fs/cgroup")
READ_EVERY_S: Final = 0.5
NO_LIMIT_BYTES: Final = 2**62
"""Version 1 has no word for none: it says 2**63, rounded down to a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """Where a version has its figures, and the name of the file cache that is not in use."""

    limit: str
    used: str
    statistics: str
    file_cache: str


VERSION_2: Final = _Version(
    limit="memory.max", used="memory.current", statistics="memory.stat", file_cache="inactive_file"
)
# What is in use counts the groups within, which `inactive_file` leaves out there.
VERSION_1: Final = _Version(
    limit="memory/memory.limit_in_bytes",
    used="memory/memory.usage_in_bytes",
    statistics="memory/memory.stat",
    file_cache="total_inactive_file",
)


@final
class MemoryGauge:
    """Says whether the share in use has reached a bound."""

    def __init__(self, *, share_max: float, clock: Callable[[], float], folder: Path = CONTROL_GROUP) -> None:
        self._share_max = share_max
        self._clock = clock
        self._folder = folder
        self._read_s = float("-inf")
        self._short = False

    def short(self) -> bool:
        now_s = self._clock()
        if now_s - self._read_s >= READ_EVERY_S:
            self._read_s = now_s
            share = share_in_use(self._folder)
            self._short = share is not None and share >= self._share_max
        return self._short


def share_in_use(folder: Path) -> float | None:
    """From 0 to 1; None where there is no limit, or no control group to ask."""
    for version in (VERSION_2, VERSION_1):
        try:
            limit = (folder / version.limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        try:
            return _share(folder, version, limit)
        except (OSError, ValueError, ZeroDivisionError):
            return None
    return None


def _share(folder: Path, version: _Version, limit: str) -> float | None:
    if limit == "max" or int(limit) >= NO_LIMIT_BYTES:
        return None
    used = int((folder / version.used).read_text(encoding="ascii"))
    statistics = (folder / version.statistics).read_text(encoding="ascii")
    return max(0, used - _value(statistics, version.file_cache)) / int(limit)


def _value(statistics: str, wanted: str) -> int:
    for line in statistics.splitlines():
        name, _, value = line.partition(" ")
        if name == wanted:
            return int(value)
    return 0
