"""Rows that are not in the database yet, in order: in files as soon as possible, else in memory.

Two threads use it: one adds rows, one takes them for the database. Rows are in groups of one file each, of a
size that the database takes at once. Where files cannot be written, rows stay in memory, up to a bound.
"""

import io
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from togetherchat_server.usage.row import LedgerRow
from togetherchat_server.usage.spill import encode, read_rows, storable
from togetherchat_server.usage.spill_folder import AdoptedFile, SpillFolder

BATCH_ROWS: Final = 500
MEMORY_ROWS_MAX: Final = 20_000
"""Rows that are in no file, because there is no folder or it cannot be written to."""
SPILL_BYTES_MAX: Final = 256 * 2**20
"""Of the files of one process: some 500,000 rows."""
READ_AGAIN_AFTER: Final = 8
"""Groups that wait, above which rows that are in a file are not kept in memory, too."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class RowGroup:
    """Rows that wait. Either `rows` or `path` may be None."""

    number: int
    """0 if another process wrote the file."""
    since_s: float
    """When its first row was added, on the monotonic clock."""
    rows: list[LedgerRow] | None
    path: Path | None
    file: io.FileIO | None = None
    count: int = 0
    bytes: int = 0

    def seal(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


@final
class Backlog:
    """The rows that wait, and how many were dropped because there was no room."""

    def __init__(self, folder: SpillFolder | None, *, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._groups = deque[RowGroup]()
        self._number = 0
        self._bytes = 0
        self._file_problem = ""
        self.rows = 0
        self.rows_in_files = 0
        self.dropped = 0
        self.damaged = 0
        """Rows of files that could not be read."""

    def add(self, rows: Sequence[LedgerRow]) -> None:
        """Append rows. Those without room are dropped and counted. Called by one thread only."""
        rows = [storable(row) for row in rows]
        for start in range(0, len(rows), BATCH_ROWS):
            part = rows[start : start + BATCH_ROWS]
            with self._lock:
                if not self._add_to_file(part):
                    self._add_to_memory(part)

    def adopt(self, files: Sequence[AdoptedFile]) -> None:
        """Put the files of another process before all other rows."""
        now_s = self._clock()
        with self._lock:
            for file in reversed(files):
                group = RowGroup(
                    number=0, since_s=now_s, rows=None, path=file.path, count=file.rows, bytes=file.bytes
                )
                self._groups.appendleft(group)
                self._bytes += file.bytes
                self.rows += file.rows
                self.rows_in_files += file.rows

    def first(self) -> RowGroup | None:
        """Return the oldest group, to which no row is added any more. Its rows are in memory."""
        with self._lock:
            if not self._groups:
                return None
            group = self._groups[0]
            group.seal()
        if group.rows is None:
            group.rows = self._read(group)
            self.damaged += max(0, group.count - len(group.rows))
        return group

    def remove(self, group: RowGroup) -> None:
        """Remove the oldest group, and its file."""
        with self._lock:
            self._groups.popleft()
            self.rows -= group.count
            if group.path is not None:
                self.rows_in_files -= group.count
                self._bytes -= group.bytes
        if group.path is not None:
            with suppress(OSError):
                group.path.unlink()

    def close(self) -> None:
        """Close the file to which rows are added."""
        with self._lock:
            for group in self._groups:
                group.seal()

    def oldest_age_s(self) -> float:
        """Return how long the oldest row has waited; 0 if none waits."""
        try:
            return max(0.0, self._clock() - self._groups[0].since_s)
        except IndexError:
            return 0.0

    def _read(self, group: RowGroup) -> list[LedgerRow]:
        assert group.path is not None  # noqa: S101  rows are in memory or in a file
        try:
            return read_rows(group.path)[0]
        except OSError as exc:
            _log.error("usage ledger: cannot read %d rows of %s: %s", group.count, group.path, exc.strerror)
            return []

    def _add_to_file(self, rows: list[LedgerRow]) -> bool:
        if self._folder is None or self._bytes >= SPILL_BYTES_MAX:
            return False
        text = encode(rows)
        try:
            group = self._open_group(self._folder, len(rows))
            self._append(group, text)
        except OSError as exc:
            self._warn(f"{exc.strerror}; rows wait in memory")
            return False
        self._file_problem = ""
        group.count += len(rows)
        group.bytes += len(text)
        if group.rows is not None:
            group.rows += rows
        self._bytes += len(text)
        self.rows += len(rows)
        self.rows_in_files += len(rows)
        return True

    def _open_group(self, folder: SpillFolder, rows: int) -> RowGroup:
        last = self._groups[-1] if self._groups else None
        if last is not None and last.file is not None and last.count + rows <= BATCH_ROWS:
            return last
        if last is not None:
            last.seal()
        if len(self._groups) > READ_AGAIN_AFTER and last is not None and last.path is not None:
            last.rows = None
        self._number += 1
        path, file = folder.create_file(self._number)
        group = RowGroup(number=self._number, since_s=self._clock(), rows=[], path=path, file=file)
        self._groups.append(group)
        return group

    def _append(self, group: RowGroup, text: bytes) -> None:
        """Write all of the text, or nothing of it."""
        assert group.file is not None  # noqa: S101  the caller opened it
        written = 0
        try:
            while written < len(text):
                written += group.file.write(memoryview(text)[written:]) or 0
        except OSError:
            with suppress(OSError):
                group.file.truncate(group.bytes)
            group.seal()
            if not group.count and group.path is not None:
                self._groups.pop()
                with suppress(OSError):
                    group.path.unlink()
            raise

    def _add_to_memory(self, rows: list[LedgerRow]) -> None:
        room = MEMORY_ROWS_MAX - (self.rows - self.rows_in_files)
        kept = rows[: max(0, room)]
        self.dropped += len(rows) - len(kept)
        if not kept:
            return
        if self._groups:
            self._groups[-1].seal()
        self._number += 1
        self._groups.append(
            RowGroup(number=self._number, since_s=self._clock(), rows=kept, path=None, count=len(kept))
        )
        self.rows += len(kept)

    def _warn(self, problem: str) -> None:
        if problem != self._file_problem:
            self._file_problem = problem
            folder = self._folder and self._folder.path
            _log.warning("usage ledger: cannot write to %s: %s", folder, problem)
