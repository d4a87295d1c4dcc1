"""The tasks of calls, and what each of them holds: its ticket, and a timer while its peer has the word.

gRPC itself receives the request and sends a whole answer, and waits for ever for a peer that
neither sends the one nor takes the other: hence the timer. The ticket is given back by the end
of the task: given back in the handler it leaked when the peer left between admission and the
handler's first step.

Knows no status and no message.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias, final

from togetherchat_server.calls.admission import Admission, Ticket

Task: TypeAlias = "asyncio.Task[object]"


def current_task() -> Task:
    """The task that gRPC made for the call."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  gRPC calls handlers in a task
    return task


@final
class RunningCalls:
    """Every call between its admission and the end of its task."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._timers: dict[Task, asyncio.TimerHandle] = {}
        self._tickets: dict[Task, Ticket] = {}
        self._aborted: set[Task] = set()

    def begin(self, ticket: Ticket, *, request_s: float, never_sent: Callable[[], None]) -> None:
        """Hold a ticket for the current task, whose peer has so long to send its request."""
        task = current_task()
        self._tickets[task] = ticket
        self._time(task, request_s, never_sent)
        task.add_done_callback(self._ended)

    def received(self) -> None:
        """The current task's request is there."""
        timer = self._timers.get(current_task())
        if timer is not None:
            timer.cancel()

    def caller(self) -> str:
        """Who made the current task's call, empty where that is not known."""
        ticket = self._tickets.get(current_task())
        return "" if ticket is None else ticket.caller

    def answered(self, take_s: float) -> None:
        """The current task has answered; its peer has so long to take it."""
        self._time(current_task(), take_s, _nothing)

    def leave(self, task: Task) -> None:
        """Give the ticket back, if that was not done before."""
        ticket = self._tickets.pop(task, None)
        if ticket is not None:
            self._admission.leave(ticket)

    def abort_all(self) -> None:
        """Cancel every task; `is_aborted` tells them from those that others cancelled."""
        self._aborted.update(self._timers)
        for task in self._timers:
            task.cancel()

    def is_aborted(self, task: Task) -> bool:
        return task in self._aborted

    def _time(self, task: Task, seconds: float, late: Callable[[], None]) -> None:
        def drop() -> None:
            late()
            task.cancel()

        self._timers[task] = task.get_loop().call_later(seconds, drop)

    def _ended(self, task: Task) -> None:
        self._timers.pop(task).cancel()
        self._aborted.discard(task)
        self.leave(task)


def _nothing() -> None:
    pass
