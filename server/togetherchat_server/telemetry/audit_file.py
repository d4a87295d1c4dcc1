"""The file of the audit log: the format of a line, and a file that survives rotation.

Each line is one write(2) to a descriptor in append mode, so the lines of several processes do not mix.
When the path no longer leads to the open file, because it was renamed or removed, the file is opened
anew. logrotate's `copytruncate` needs nothing: an append goes to the end of the truncated file.

A line that cannot be written is dropped and counted; the log of the service has one warning.
"""

import errno
import io
import json
import logging
import os
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

from togetherchat_server.config import SettingsError
from togetherchat_server.domain.audit import AuditEntry

STDERR: Final = "stderr"
"""The value of the setting that stands for standard error."""
STDERR_FD: Final = 2
CHECK_EVERY_S: Final = 1.0
MODE: Final = stat.S_IRUSR | stat.S_IWUSR

_log = logging.getLogger(__name__)


@final
class AuditFile:
    """A file or standard error, to which lines are appended. Used by one thread at a time."""

    def __init__(self, target: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the file at the path `target`, or standard error for `stderr`.

        Raises:
            OSError: the file cannot be opened.
        """
        self.dropped = 0
        self._path = None if target == STDERR else Path(target)
        self._clock = clock
        self._file = _standard_error() if self._path is None else _opened(self._path)
        self._check_at_s = clock() + CHECK_EVERY_S
        self._unfinished = False
        """Whether the file may end with a part of a line."""
        self._gone = ""
        """Why lines cannot be kept: the file has no name any more and cannot be created."""
        self._lost = 0
        """Dropped lines that the log does not yet have the number of."""
        self._warned = ""
        self._warned_s = 0.0

    def write(self, line: str) -> None:
        """Append a line, or drop and count it."""
        try:
            self.append(line)
        except OSError as exc:
            self.dropped += 1
            self._lost += 1
            self._warn(f"cannot be written ({exc.strerror}); lines are dropped")
        else:
            # On a disk that is nearly full, short lines fit: a warning for each change would be a flood.
            if self._lost and self._clock() - self._warned_s >= CHECK_EVERY_S:
                _log.warning("audit log %s: is written again; %d lines are lost", self._name, self._lost)
                self._lost = 0
                self._warned = ""

    def flush(self) -> None:
        """Do nothing: each line is written at once."""

    def append(self, line: str) -> None:
        """Append a line, which ends with a line feed.

        Raises:
            OSError: the line, or a part of it, was not written.
        """
        self._follow_rotation()
        if self._gone:
            raise OSError(errno.ENOENT, self._gone)
        # A line must not continue the part of another one.
        data = (b"\n" if self._unfinished else b"") + line.encode()
        written = self._file.write(data) or 0
        if written < len(data):
            self._unfinished = self._unfinished or written > 0
            code = errno.ENOSPC if written else errno.EAGAIN
            raise OSError(code, os.strerror(code))
        self._unfinished = False

    def close(self) -> None:
        self._file.close()

    @property
    def _name(self) -> str:
        return STDERR if self._path is None else str(self._path)

    def _follow_rotation(self) -> None:
        """Open the file at the path if it is another one than the open file, or if there is none.

        The path is looked up once a second, and at once when the open file was removed.
        """
        if self._path is None:
            return
        now_s, status = self._clock(), os.fstat(self._file.fileno())
        just_removed = not (status.st_nlink or self._gone)
        if now_s < self._check_at_s and not just_removed:
            return
        self._check_at_s = now_s + CHECK_EVERY_S
        if _same_file(self._path, status):
            return
        try:
            opened = _opened(self._path)
        except OSError as exc:
            problem = exc.strerror
            # A renamed file can still be found. A removed one would swallow the lines.
            if status.st_nlink:
                self._warn(f"cannot be opened anew ({problem}); lines go to the renamed file")
            else:
                self._gone = problem
            return
        self._file.close()
        self._file, self._unfinished, self._gone = opened, False, ""
        if not self._lost:
            self._warned = ""

    def _warn(self, problem: str) -> None:
        if problem != self._warned:
            self._warned = problem
            self._warned_s = self._clock()
            _log.warning("audit log %s: %s", self._name, problem)


def check_audit_log(target: str | None) -> None:
    """Open the audit log, which creates its file, and close it again.

    Raises:
        SettingsError: the file cannot be opened.
    """
    # The reader of a named pipe takes a close for the end.
    if target is not None and not Path(target).is_fifo():
        open_audit_file(target).close()


def open_audit_file(target: str) -> AuditFile:
    """Open the file of the audit log, or standard error for `stderr`.

    Raises:
        SettingsError: the file cannot be opened.
    """
    try:
        return AuditFile(target)
    except OSError as exc:
        raise SettingsError(f"--audit-log {target}: cannot open the file: {exc.strerror}") from None


def line_of(entry: AuditEntry) -> str:
    """Return the line of an event, without its line feed. The text is ASCII."""
    moment = datetime.fromtimestamp(entry.time_s, UTC).isoformat(timespec="milliseconds")
    members = {"time": moment.replace("+00:00", "Z"), "event": entry.event.value, "pid": os.getpid()}
    return json.dumps({**members, **entry.fields}, separators=(",", ":"))


def _opened(path: Path) -> io.FileIO:
    # Without O_NONBLOCK the open of a named pipe would wait for its reader.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    descriptor = os.open(path, flags, MODE)
    os.set_blocking(descriptor, True)
    return io.FileIO(descriptor, "w")


def _standard_error() -> io.FileIO:
    return io.FileIO(os.dup(STDERR_FD), "w")


def _same_file(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False
