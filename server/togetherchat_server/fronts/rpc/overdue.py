"""Tasks that wait for their peers, all for the same time, and are cancelled when it is over.

One look at the oldest, now and then, in place of a timer for each: two timers were a fiftieth
of what a whole call costs, and nearly all of them are cancelled. So a task may wait an eighth longer than it
should, and never more than a second.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    import asyncio

    Task = asyncio.Task[object]

LOOKS: Final = 8
LOOK_S_MAX: Final = 1.0


@final
class Overdue:
    """Cancels the tasks that wait for longer than `limit_s`."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._look_s = min(LOOK_S_MAX, limit_s / LOOKS)
        self._waiting: dict[Task, tuple[float, Callable[[], None] | None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: "Task", late: Callable[[], None] | None = None) -> None:
        """From now on the task waits. `late` is called before it is cancelled."""
        loop = task.get_loop()
        self._waiting[task] = (loop.time(), late)
        if self._timer is None:
            self._timer = loop.call_later(self._look_s, self._look, loop)

    def end(self, task: "Task") -> None:
        """It waits no more, if it did."""
        self._waiting.pop(task, None)

    def _look(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._timer = None
        oldest_s = loop.time() - self._limit_s
        overdue: list[tuple[Task, Callable[[], None] | None]] = []
        for task, (since_s, late) in self._waiting.items():
            if since_s > oldest_s:
                break
            overdue.append((task, late))
        for task, late in overdue:
            del self._waiting[task]
            if late is not None:
                late()
            task.cancel()
        if self._waiting:
            self._timer = loop.call_later(self._look_s, self._look, loop)
