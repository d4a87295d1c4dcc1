"""The folder in which rows wait for the database. Each process has a folder in it, with files of rows.

A process holds a lock on a file beside its folder for as long as it lives. A process that gets the lock of
another folder knows that its process has ended, and takes over the files.
"""

import fcntl
import io
import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from togetherchat_server.usage.process_counts import LastCounts, ProcessCounts
from togetherchat_server.usage.spill import read_rows

COUNTS: Final = "counts"
_OWN: Final = "rows-"
_ADOPTED: Final = "adopted-"  # sorts before the own ones: they are older
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedFile:
    """A file of rows that an ended process left."""

    path: Path
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What an ended process left: its files, the oldest first, and how many of its rows are lost."""

    files: tuple[AdoptedFile, ...]
    lost: int
    in_flight: int
    """Calls that were in flight when it was killed, and so have no row."""


@final
class SpillFolder:
    """The folder of this process.

    Raises:
        OSError: the folder cannot be created or written to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        self._lock_path, self._lock = _new_lock(root)
        self.path: Final = self._lock_path.with_suffix("")
        self.path.mkdir(mode=_FOLDER_MODE)
        self.counts: Final = ProcessCounts(self.path / COUNTS)
        self._adopted = 0

    @property
    def root(self) -> Path:
        """The folder of all processes."""
        return self._root

    def create_file(self, number: int) -> tuple[Path, io.FileIO]:
        """Create the file of rows with this number. Raises OSError."""
        path = self.path / f"{_OWN}{number:012d}"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        return path, io.FileIO(descriptor, "w")

    def adopt(self) -> Iterator[Adoption]:
        """Take over the files of processes that have ended."""
        for lock_path in sorted(self._root.glob("*.lock")):
            if lock_path != self._lock_path:
                with _ended(lock_path) as ended:
                    if ended:
                        yield self._adopt(lock_path.with_suffix(""))
                        lock_path.unlink(missing_ok=True)

    def holds_adopted(self) -> bool:
        """Return whether any process has files of an ended one that are not in the database yet."""
        return any(self._root.glob(f"*/{_ADOPTED}*"))

    def close(self) -> None:
        """Remove the folder, if no rows wait in it. Else the next process finds them."""
        self.counts.set_in_flight(0)
        self.counts.close()
        if not any(self.path.glob("*-*")):
            with suppress(OSError):
                (self.path / COUNTS).unlink()
                self.path.rmdir()
                self._lock_path.unlink()
        os.close(self._lock)

    def _adopt(self, folder: Path) -> Adoption:
        counts = LastCounts.read(folder / COUNTS)
        files = list[AdoptedFile]()
        found = damaged = 0
        for path in sorted(folder.glob(f"{_ADOPTED}*")) + sorted(folder.glob(f"{_OWN}*")):
            rows, bad = read_rows(path)
            damaged += bad
            if counts and path.name.startswith(_OWN) and int(path.name.removeprefix(_OWN)) > counts.through:
                found += len(rows)
            files.append(self._move(path, len(rows)))
        with suppress(OSError):
            (folder / COUNTS).unlink(missing_ok=True)
            folder.rmdir()
        return Adoption(
            files=tuple(files),
            lost=counts.lost(found=found) if counts else damaged,
            in_flight=counts.in_flight if counts else 0,
        )

    def _move(self, path: Path, rows: int) -> AdoptedFile:
        self._adopted += 1
        target = self.path / f"{_ADOPTED}{self._adopted:012d}"
        path.rename(target)
        return AdoptedFile(path=target, rows=rows, bytes=target.stat().st_size)


def _new_lock(root: Path) -> tuple[Path, int]:
    """Create and lock a file: another one, if it was taken over before it was locked."""
    while True:
        path = root / f"{os.getpid()}-{secrets.token_hex(8)}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        os.close(descriptor)


@contextmanager
def _ended(lock_path: Path) -> Generator[bool]:
    """Hold the lock, if the process has ended; else yield false."""
    try:
        descriptor = os.open(lock_path, os.O_RDWR)
    except OSError:  # another process took it over just now
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The lock of a file that was removed meanwhile protects nothing.
            yield os.path.samestat(os.fstat(descriptor), lock_path.stat())
        except (BlockingIOError, FileNotFoundError):
            yield False
    finally:
        os.close(descriptor)
