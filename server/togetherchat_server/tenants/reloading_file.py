"""A file that may be replaced while the service runs.

Looks at it at most once a second, and only when somebody asks: no thread, no task, and nothing on
the way of most calls but a comparison of two numbers. What cannot be read or used leaves what was
read last in force, and is said once.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar, final

LOOK_EVERY_S: Final = 1.0

Value = TypeVar("Value")

_State = tuple[int, int, int, int]
_log = logging.getLogger(__name__)


@final
class ReloadingFile(Generic[Value]):
    """What `read` makes of a file. Its first reading raises what `read` raises: OSError, ValueError."""

    def __init__(self, path: Path, read: Callable[[Path], Value], *, clock: Callable[[], float]) -> None:
        self._path = path
        self._read = read
        self._clock = clock
        self._seen: _State | None = _state(path)
        self._value = read(path)
        self._look_at_s = clock() + LOOK_EVERY_S

    def current(self) -> Value:
        """What the file says, at most a second late."""
        now_s = self._clock()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            state = _state(self._path)
        except OSError as exc:
            if self._seen is not None:
                _log.warning("%s is gone (%s): what it said last stays", self._path, exc.strerror)
            self._seen = None
            return
        if state == self._seen:
            return
        self._seen = state
        try:
            self._value = self._read(self._path)
        except (OSError, ValueError) as exc:
            said = exc.strerror if isinstance(exc, OSError) else exc
            _log.warning("%s cannot be used (%s): what it said before stays", self._path, said)
        else:
            _log.info("%s was read again", self._path)


def _state(path: Path) -> _State:
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
