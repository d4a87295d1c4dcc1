"""The bound on repeated log lines."""

from togetherchat_server.telemetry.repeat_limiter import KINDS_MAX, REMEMBERED_MAX, RepeatLimiter


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_one_line_a_second_of_each_kind():
    """The next line says how many were suppressed."""
    limiter = RepeatLimiter(1, clock=(clock := Clock()))
    first = [limiter.admit("a") for _ in range(5)]
    other = limiter.admit("b")
    clock.now_s += 1

    assert [0, None, None, None, None] == first
    assert 0 == other
    assert (4, None, 0) == (limiter.admit("a"), limiter.admit("a"), limiter.admit("b"))


def test_several_lines_a_second_can_be_admitted():
    """Each of these is written; the next one is not."""
    limiter = RepeatLimiter(3, clock=Clock())

    assert [0, 0, 0, None] == [limiter.admit("a") for _ in range(4)]


def test_kinds_are_bounded():
    """An attacker that varies the kind writes no more lines, and fills no memory."""
    limiter = RepeatLimiter(1, clock=Clock())
    admitted = [limiter.admit(number) for number in range(10 * REMEMBERED_MAX)]

    assert KINDS_MAX == len([result for result in admitted if result is not None])
    assert len(limiter._suppressed) <= REMEMBERED_MAX
