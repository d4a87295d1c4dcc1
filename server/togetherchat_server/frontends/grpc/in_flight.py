"""The tasks of the calls in flight: their permits, and the time they wait for their peers.

gRPC itself receives the request of a unary handler and sends its response. It waits without limit for a
peer that does not send or does not read, so each has a timeout here.

The permit is released when the task ends. If the handler released it, the permit would leak when the
peer disconnects between admission and the handler's first step.

Knows no status and no message.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias, final

from togetherchat_server.calls.admission import Admission, Permit

Task: TypeAlias = "asyncio.Task[object]"

CHECKS_PER_TIMEOUT: Final = 8
CHECK_INTERVAL_MAX_S: Final = 1.0


def current_task() -> Task:
    """Return the task that gRPC created for the call."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  gRPC calls handlers in a task
    return task


@final
class InFlightCalls:
    """Every call from its admission to the end of its task."""

    def __init__(
        self, admission: Admission, *, request_read_timeout_s: float, write_timeout_s: float
    ) -> None:
        """The timeouts limit how long a peer may take to send its request, and to read the response."""
        self._admission = admission
        self._tasks: set[Task] = set()
        self._permits: dict[Task, Permit] = {}
        self._aborted: set[Task] = set()
        self._reading = TaskTimeouts(request_read_timeout_s)
        self._writing = TaskTimeouts(write_timeout_s)

    def begin(self, permit: Permit, *, on_read_timeout: Callable[[], None]) -> None:
        """Hold a permit for the current task, and start the timeout for its request."""
        task = current_task()
        self._tasks.add(task)
        self._permits[task] = permit
        self._reading.begin(task, on_read_timeout)
        task.add_done_callback(self._task_ended)

    def request_received(self) -> None:
        """Stop the timeout for the request of the current task, which has been received."""
        self._reading.end(current_task())

    def caller(self) -> str:
        """Return the caller of the current task's call; empty if it is unknown."""
        permit = self._permits.get(current_task())
        return "" if permit is None else permit.caller

    def response_returned(self) -> None:
        """Start the timeout for the response that the current task has returned to gRPC."""
        self._writing.begin(current_task())

    def release(self, task: Task) -> None:
        """Release the permit, unless it was released before."""
        permit = self._permits.pop(task, None)
        if permit is not None:
            self._admission.release(permit)

    def abort_all(self) -> None:
        """Cancel every task. `is_aborted` distinguishes these from tasks that others cancelled."""
        self._aborted.update(self._tasks)
        for task in self._tasks:
            task.cancel()

    def is_aborted(self, task: Task) -> bool:
        return task in self._aborted

    def _task_ended(self, task: Task) -> None:
        self._tasks.discard(task)
        self._reading.end(task)
        self._writing.end(task)
        self._aborted.discard(task)
        self.release(task)


@final
class TaskTimeouts:
    """Cancels the tasks that wait for their peers longer than `timeout_s`.

    All tasks have the same timeout, so one timer checks the oldest of them at intervals. A timer for
    each task was measured: two of them cost 2% of a whole call, and nearly all are cancelled. A task may
    therefore wait an eighth longer than the timeout, and at most a second longer.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._interval_s = min(CHECK_INTERVAL_MAX_S, timeout_s / CHECKS_PER_TIMEOUT)
        self._waiting: dict[Task, tuple[float, Callable[[], None] | None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: "Task", on_timeout: Callable[[], None] | None = None) -> None:
        """Start the timeout of a task. `on_timeout` is called before the task is cancelled."""
        loop = task.get_loop()
        self._waiting[task] = (loop.time(), on_timeout)
        if self._timer is None:
            self._timer = loop.call_later(self._interval_s, self._check, loop)

    def end(self, task: "Task") -> None:
        """Stop the timeout of a task, if there is one."""
        self._waiting.pop(task, None)

    def _check(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._timer = None
        newest_overdue_s = loop.time() - self._timeout_s
        overdue: list[tuple[Task, Callable[[], None] | None]] = []
        for task, (since_s, on_timeout) in self._waiting.items():
            if since_s > newest_overdue_s:
                break
            overdue.append((task, on_timeout))
        for task, on_timeout in overdue:
            del self._waiting[task]
            if on_timeout is not None:
                on_timeout()
            task.cancel()
        if self._waiting:
            self._timer = loop.call_later(self._interval_s, self._check, loop)
