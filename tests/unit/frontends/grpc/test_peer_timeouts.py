"""The timeouts of tasks that wait for their peers. The loop and its time are fakes."""

import pytest

from togetherchat_server.frontends.grpc.peer_timeouts import TaskTimeouts


class Loop:
    """A loop whose time only passes in `pass_s`, which calls the timers that are due."""

    def __init__(self):
        self.now_s = 100.0
        self.timers = []

    def time(self):
        return self.now_s

    def call_later(self, delay_s, callback, *arguments):
        self.timers.append((self.now_s + delay_s, callback, arguments))
        return object()

    def pass_s(self, seconds):
        end_s = self.now_s + seconds
        while due := sorted(
            (timer for timer in self.timers if timer[0] <= end_s), key=lambda timer: timer[0]
        ):
            self.now_s = due[0][0]
            self.timers.remove(due[0])
            due[0][1](*due[0][2])
        self.now_s = end_s


class Task:
    def __init__(self, loop):
        self.loop = loop
        self.cancelled_s = None

    def get_loop(self):
        return self.loop

    def cancel(self):
        assert self.cancelled_s is None, "cancelled twice"
        self.cancelled_s = self.loop.now_s - 100.0


@pytest.fixture
def loop():
    return Loop()


@pytest.mark.parametrize(("limit_s", "latest_s"), [(60.0, 61.0), (0.8, 0.9)])
def test_a_task_that_waits_too_long_is_cancelled_once(loop, limit_s, latest_s):
    """The cancel comes after the timeout, at most an eighth or a second late."""
    task, timeouts = Task(loop), TaskTimeouts(limit_s)
    timeouts.begin(task)
    loop.pass_s(1000.0)
    assert limit_s <= task.cancelled_s <= latest_s + 1e-6


def test_on_timeout_is_called_before_the_cancel(loop):
    """The call record is written with its reason before the task ends."""
    task, calls = Task(loop), []
    timeouts = TaskTimeouts(60.0)
    timeouts.begin(task, lambda: calls.append(task.cancelled_s))
    loop.pass_s(100.0)
    assert [None] == calls


def test_a_task_whose_timeout_ended_is_not_cancelled(loop):
    """The task may then run for any time. Ending a timeout that never began is allowed."""
    task, timeouts = Task(loop), TaskTimeouts(60.0)
    timeouts.begin(task)
    loop.pass_s(59.0)
    timeouts.end(task)
    timeouts.end(Task(loop))
    loop.pass_s(1000.0)
    assert task.cancelled_s is None


def test_each_task_has_its_own_timeout(loop):
    """A younger task is not cancelled with an older one."""
    timeouts = TaskTimeouts(60.0)
    older, younger = Task(loop), Task(loop)
    timeouts.begin(older)
    loop.pass_s(30.0)
    timeouts.begin(younger)
    loop.pass_s(40.0)
    assert (True, None) == (older.cancelled_s is not None, younger.cancelled_s)
    loop.pass_s(25.0)
    assert younger.cancelled_s >= 90.0


def test_no_timer_runs_while_no_task_waits(loop):
    """No timer is left behind, and the next task that waits starts one again."""
    timeouts = TaskTimeouts(60.0)
    first, second = Task(loop), Task(loop)
    timeouts.begin(first)
    timeouts.end(first)
    loop.pass_s(2.0)
    assert [] == loop.timers
    timeouts.begin(second)
    loop.pass_s(62.0)
    assert second.cancelled_s is not None
