"""Tasks that wait for their peers: the loop and its time are the test's own."""

import pytest

from togetherchat_server.frontends.grpc.in_flight import TaskTimeouts


class Loop:
    """Time passes when told to; what is due is called in between."""

    def __init__(self):
        self.now_s = 100.0
        self.timers = []

    def time(self):
        return self.now_s

    def call_later(self, delay_s, callback, *words):
        self.timers.append((self.now_s + delay_s, callback, words))
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
    """Not before its time, and no later than an eighth or a second beyond it."""
    task, overdue = Task(loop), TaskTimeouts(limit_s)
    overdue.begin(task)
    loop.pass_s(1000.0)
    assert limit_s <= task.cancelled_s <= latest_s + 1e-6


def test_what_is_to_be_told_is_told_before(loop):
    """So that the books say why before the task ends."""
    task, told = Task(loop), []
    overdue = TaskTimeouts(60.0)
    overdue.begin(task, lambda: told.append(task.cancelled_s))
    loop.pass_s(100.0)
    assert [None] == told


def test_a_task_that_waits_no_more_is_left_alone(loop):
    """However long it lasts then; and one that never waited may be ended too."""
    task, overdue = Task(loop), TaskTimeouts(60.0)
    overdue.begin(task)
    loop.pass_s(59.0)
    overdue.end(task)
    overdue.end(Task(loop))
    loop.pass_s(1000.0)
    assert task.cancelled_s is None


def test_each_task_has_its_own_time(loop):
    """The younger is not taken with the older."""
    overdue = TaskTimeouts(60.0)
    older, younger = Task(loop), Task(loop)
    overdue.begin(older)
    loop.pass_s(30.0)
    overdue.begin(younger)
    loop.pass_s(40.0)
    assert (True, None) == (older.cancelled_s is not None, younger.cancelled_s)
    loop.pass_s(25.0)
    assert younger.cancelled_s >= 90.0


def test_nobody_looks_while_nobody_waits(loop):
    """No timer is left behind, and the next task that waits is looked after again."""
    overdue = TaskTimeouts(60.0)
    first, second = Task(loop), Task(loop)
    overdue.begin(first)
    overdue.end(first)
    loop.pass_s(2.0)
    assert [] == loop.timers
    overdue.begin(second)
    loop.pass_s(62.0)
    assert second.cancelled_s is not None
