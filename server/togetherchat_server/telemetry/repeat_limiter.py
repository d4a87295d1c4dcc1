"""Bounds the lines that one kind of fault writes: a flood of faults must not become a flood of lines."""

import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final, final

KINDS_MAX: Final = 64
"""Kinds of which lines are written in one second."""
REMEMBERED_MAX: Final = 1024
"""Kinds whose suppressed lines are counted."""


@final
class RepeatLimiter:
    """Admits a number of lines a second of each kind. Metrics count what is not written."""

    def __init__(self, per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._second = 0
        self._written: Counter[Hashable] = Counter()
        self._suppressed: dict[Hashable, int] = {}

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of this kind were suppressed since the last; None: suppress this one too."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._written.clear()
        written = self._written[kind] if kind in self._written or len(self._written) < KINDS_MAX else None
        if written is not None and written < self._per_second:
            self._written[kind] += 1
            return self._suppressed.pop(kind, 0)
        if kind in self._suppressed or len(self._suppressed) < REMEMBERED_MAX:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
        return None
