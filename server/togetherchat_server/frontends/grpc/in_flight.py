"""Tasks that wait for their peers, all for the same time, and are cancelled when it is over.

One look at the oldest, now and then, in place of a timer for each: two timers were a fiftieth
of what a whole call costs, and nearly all of them are cancelled. So a task may wait an eighth longer than it
should, and never more than a second.

MERGED: The tasks of calls, what each of them holds, and how long it waits while its peer has the word.

gRPC itself receives the request and sends a whole answer, and waits for ever for a peer that
neither sends the one nor takes the other: hence a limit. The permit is given back by the end
of the task: given back in the handler it leaked when the peer left between admission and the
handler's first step.

Knows no status and no message.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias, final

from togetherchat_server.calls.admission import Admission, Permit

Task: TypeAlias = "asyncio.Task[object]"

LOOKS: Final = 8
LOOK_S_MAX: Final = 1.0


@final
class TaskTimeouts:
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


def current_task() -> Task:
    """The task that gRPC made for the call."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  gRPC calls handlers in a task
    return task


@final
class InFlightCalls:
    """Every call between its admission and the end of its task."""

    def __init__(self, admission: Admission, *, request_read_timeout_s: float, take_s: float) -> None:
        """A peer has `request_read_timeout_s` to send its request, and `take_s` to take its answer."""
        self._admission = admission
        self._tasks: set[Task] = set()
        self._permits: dict[Task, Permit] = {}
        self._aborted: set[Task] = set()
        self._unsent = TaskTimeouts(request_read_timeout_s)
        self._untaken = TaskTimeouts(take_s)

    def begin(self, permit: Permit, *, never_sent: Callable[[], None]) -> None:
        """Hold a permit for the current task, whose peer is to send its request."""
        task = current_task()
        self._tasks.add(task)
        self._permits[task] = permit
        self._unsent.begin(task, never_sent)
        task.add_done_callback(self._ended)

    def received(self) -> None:
        """The current task's request is there."""
        self._unsent.end(current_task())

    def caller(self) -> str:
        """Who made the current task's call, empty where that is not known."""
        permit = self._permits.get(current_task())
        return "" if permit is None else permit.caller

    def answered(self) -> None:
        """The current task has answered, which its peer is to take."""
        self._untaken.begin(current_task())

    def leave(self, task: Task) -> None:
        """Give the permit back, if that was not done before."""
        permit = self._permits.pop(task, None)
        if permit is not None:
            self._admission.leave(permit)

    def abort_all(self) -> None:
        """Cancel every task; `is_aborted` tells them from those that others cancelled."""
        self._aborted.update(self._tasks)
        for task in self._tasks:
            task.cancel()

    def is_aborted(self, task: Task) -> bool:
        return task in self._aborted

    def _ended(self, task: Task) -> None:
        self._tasks.discard(task)
        self._unsent.end(task)
        self._untaken.end(task)
        self._aborted.discard(task)
        self.leave(task)
