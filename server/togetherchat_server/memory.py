"""How much of the memory that this container may use is in use.

Reads the control group's own figures (version 2). Memory that the kernel would give back at
once, the file cache, does not count: the kubelet counts the same way. Where there is no limit
there is no share. The figures are read at most twice a second.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, final

CONTROL_GROUP: Final = Path("/sys/fs/cgroup")
READ_EVERY_S: Final = 0.5


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
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        statistics = (folder / "memory.stat").read_text(encoding="ascii")
        if limit == "max":
            return None
        return max(0, used - _file_cache(statistics)) / int(limit)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _file_cache(statistics: str) -> int:
    for line in statistics.splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return int(value)
    return 0
