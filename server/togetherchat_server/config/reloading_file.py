"""A file that is read again when it is replaced while the service runs.

The file is checked at most once a second, and only when its value is requested. That needs no thread
and no task, and most calls only compare two numbers. If the file cannot be read or is invalid, the
last value stays in effect, and one warning is logged. Both outcomes are security events.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar, final

from togetherchat_server.domain.audit import AuditEvent, emit

CHECK_EVERY_S: Final = 1.0

Value = TypeVar("Value")

_FileState = tuple[int, int, int, int]
_log = logging.getLogger(__name__)


@final
class ReloadingFile(Generic[Value]):
    """The result of `read` for the current file. The first read raises what `read` raises.

    `reloaded` and `unreadable` are the security events of a change.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], Value],
        *,
        clock: Callable[[], float] = time.monotonic,
        reloaded: AuditEvent = AuditEvent.FILE_RELOADED,
        unreadable: AuditEvent = AuditEvent.FILE_UNREADABLE,
    ) -> None:
        self.path: Final = path
        self._read = read
        self._clock = clock
        self._reloaded = reloaded
        self._unreadable = unreadable
        self._state: _FileState | None = _state(path)
        self._value = read(path)
        self._stale = False
        self._check_at_s = clock() + CHECK_EVERY_S

    def current(self) -> Value:
        """Return the value of the file, at most a second old."""
        now_s = self._clock()
        if now_s >= self._check_at_s:
            self._check_at_s = now_s + CHECK_EVERY_S
            self.check()
        return self._value

    def stale(self) -> bool:
        """Return whether the file is missing or invalid, so that earlier contents are in effect."""
        self.current()
        return self._stale

    def check(self) -> None:
        """Read the file again now, if it was replaced."""
        try:
            state = _state(self.path)
        except OSError as exc:
            if self._state is not None:
                _log.warning(
                    "%s: file not found (%s); its last contents stay in effect", self.path, exc.strerror
                )
                emit(self._unreadable, file=str(self.path), problem=exc.strerror or "")
            self._state, self._stale = None, True
            return
        if state == self._state:
            return
        self._state, self._stale = state, True
        try:
            self._value = self._read(self.path)
        except (OSError, ValueError) as exc:
            problem = exc.strerror if isinstance(exc, OSError) else exc
            _log.warning("%s: invalid (%s); its last valid contents stay in effect", self.path, problem)
            emit(self._unreadable, file=str(self.path), problem=str(problem))
        else:
            self._stale = False
            _log.info("%s: reloaded", self.path)
            emit(self._reloaded, file=str(self.path))


def _state(path: Path) -> _FileState:
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size
