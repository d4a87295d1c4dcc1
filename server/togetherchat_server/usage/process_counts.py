"""Counts of one process in a small mapped file, which outlive the process however it ends.

The kernel keeps a mapped page when a process is killed. The next process compares the counts with the rows
that it finds, and so knows how many were lost.
"""

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

_MAGIC: Final = b"tcusage1"
_NUMBERS: Final = struct.Struct("<QQQQQ")
_NUMBER: Final = struct.Struct("<Q")
_PAIR: Final = struct.Struct("<QQ")
_START: Final = len(_MAGIC)
_SIZE: Final = _START + _NUMBERS.size


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCounts:
    """The counts of a process that has ended."""

    recorded: int
    """Calls that ended."""
    dropped: int
    """Rows for which there was no room, counted while the process ran."""
    handled: int
    """Rows that are in the database, or were counted as rejected or damaged."""
    through: int
    """Number of the last file of these rows."""
    in_flight: int
    """Calls in flight shortly before the end."""

    @classmethod
    def read(cls, path: Path) -> "LastCounts | None":
        """Read the file. Return None if it is missing or damaged."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if len(content) != _SIZE or not content.startswith(_MAGIC):
            return None
        recorded, dropped, handled, through, in_flight = _NUMBERS.unpack_from(content, _START)
        return cls(recorded=recorded, dropped=dropped, handled=handled, through=through, in_flight=in_flight)

    def lost(self, *, found: int) -> int:
        """Return how many rows were lost, if `found` rows wait in files after `through`."""
        return max(0, self.recorded - self.dropped - self.handled - found)


@final
class ProcessCounts:
    """The counts of this process. Each method is a write to memory, of numbers that one thread owns.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Written, not only extended: a page without a block would end the process on a full disk.
            os.write(descriptor, _MAGIC + bytes(_NUMBERS.size))
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)

    def set_recorded(self, number: int) -> None:
        _NUMBER.pack_into(self._map, _START, number)

    def set_dropped(self, number: int) -> None:
        _NUMBER.pack_into(self._map, _START + 8, number)

    def set_handled(self, number: int, *, through: int) -> None:
        _PAIR.pack_into(self._map, _START + 16, number, through)

    def set_in_flight(self, number: int) -> None:
        _NUMBER.pack_into(self._map, _START + 32, number)

    def close(self) -> None:
        self._map.close()
