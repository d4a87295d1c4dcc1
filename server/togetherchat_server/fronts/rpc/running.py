"""The tasks of calls, what each of them holds, and how long it waits while its peer has the word.

gRPC itself receives the request and sends a whole answer, and waits for ever for a peer that
neither sends the one nor takes the other: hence a limit. The ticket is given back by the end
of the task: given back in the handler it leaked when the peer left between admission and the
handler's first step.

Knows no status and no message.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias, final

from togetherchat_server.calls.admission import Admission, Ticket
from togetherchat_server.fronts.rpc.overdue import Overdue

Task: TypeAlias = "asyncio.Task[object]"


def current_task() -> Task:
    """The task that gRPC made for the call."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  gRPC calls handlers in a task
    return task


@final
class RunningCalls:
    """Every call between its admission and the end of its task."""

    def __init__(self, admission: Admission, *, request_s: float, take_s: float) -> None:
        """A peer has `request_s` to send its request, and `take_s` to take its answer."""
        self._admission = admission
        self._tasks: set[Task] = set()
        self._tickets: dict[Task, Ticket] = {}
        self._aborted: set[Task] = set()
        self._unsent = Overdue(request_s)
        self._untaken = Overdue(take_s)

    def begin(self, ticket: Ticket, *, never_sent: Callable[[], None]) -> None:
        """Hold a ticket for the current task, whose peer is to send its request."""
        task = current_task()
        self._tasks.add(task)
        self._tickets[task] = ticket
        self._unsent.begin(task, never_sent)
        task.add_done_callback(self._ended)

    def received(self) -> None:
        """The current task's request is there."""
        self._unsent.end(current_task())

    def caller(self) -> str:
        """Who made the current task's call, empty where that is not known."""
        ticket = self._tickets.get(current_task())
        return "" if ticket is None else ticket.caller

    def answered(self) -> None:
        """The current task has answered, which its peer is to take."""
        self._untaken.begin(current_task())

    def leave(self, task: Task) -> None:
        """Give the ticket back, if that was not done before."""
        ticket = self._tickets.pop(task, None)
        if ticket is not None:
            self._admission.leave(ticket)

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
