"""How long gRPC may wait for a peer on behalf of a call.

gRPC itself receives the request of a unary handler and sends its response. It waits without limit for a
peer that does not send or does not read, so each has a timeout here.

Knows no status and no message.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias, final

Task: TypeAlias = "asyncio.Task[object]"

CHECKS_PER_TIMEOUT: Final = 8
CHECK_INTERVAL_MAX_S: Final = 1.0


def current_task() -> Task:
    """Return the task that gRPC created for the call."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  gRPC calls handlers in a task
    return task


@final
class PeerTimeouts:
    """The timeouts for the request and for the response of each call, by its task."""

    def __init__(self, *, request_read_timeout_s: float, write_timeout_s: float) -> None:
        self._reading = TaskTimeouts(request_read_timeout_s)
        self._writing = TaskTimeouts(write_timeout_s)

    def request_awaited(self, task: Task, on_timeout: Callable[[], None]) -> None:
        """Start the timeout for the request of a call, which gRPC reads."""
        self._reading.begin(task, on_timeout)

    def request_received(self, task: Task) -> None:
        """Stop the timeout for the request."""
        self._reading.end(task)

    def response_returned(self, task: Task) -> None:
        """Start the timeout for the response, which gRPC writes."""
        self._writing.begin(task)

    def task_ended(self, task: Task) -> None:
        """Stop the timeouts of a call that has ended."""
        self._reading.end(task)
        self._writing.end(task)


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
