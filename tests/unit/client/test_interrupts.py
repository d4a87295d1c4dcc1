"""Tests of the handling of Ctrl-C."""

import contextlib
import signal
import time

import pytest

from togetherchat_client.cli import interrupts as module
from togetherchat_client.cli.interrupts import InterruptHandler, repeated_interrupts


def press() -> None:
    """Receive a Ctrl-C, in code that `handler` may interrupt."""
    signal.raise_signal(signal.SIGINT)


def handler() -> InterruptHandler:
    return InterruptHandler(interruptible=press.__code__)


def test_ctrl_c_raises_while_a_line_is_typed():
    """Nothing else ends `input`."""
    with handler(), pytest.raises(KeyboardInterrupt):
        press()


def test_each_ctrl_c_raises_again():
    """`input` checks for signals once more with the exception of the first set."""
    with handler():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                press()


def test_ctrl_c_does_not_interrupt_the_handling_of_the_previous_one():
    """Neither the exit of a context, nor `except`, nor `finally`."""
    ended = []
    with handler():
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(lambda: ended.append(signal.raise_signal(signal.SIGINT)))
                press()
        except KeyboardInterrupt:
            ended.append(signal.raise_signal(signal.SIGINT))
        finally:
            ended.append(signal.raise_signal(signal.SIGINT))
    assert 3 == len(ended)


def test_ctrl_c_cancels_while_a_completion_streams():
    """Each Ctrl-C calls `cancel`, which is idempotent."""
    cancelled = []
    with handler() as interrupts, interrupts.cancelling(lambda: cancelled.append(True)):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert [True, True] == cancelled


def test_ctrl_c_does_nothing_at_other_times():
    """Nothing can be interrupted before or after a completion."""
    with handler() as interrupts:
        with interrupts.cancelling(pytest.fail):
            pass
        signal.raise_signal(signal.SIGINT)


def test_the_previous_handler_is_restored():
    """The caller of the command keeps its own SIGINT handler."""
    before = signal.getsignal(signal.SIGINT)
    with handler():
        pass
    assert before == signal.getsignal(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no setitimer")
def test_a_swallowed_interrupt_is_raised_again(monkeypatch):
    """One Ctrl-C raises until the context is left. Timer and handlers are then restored."""
    monkeypatch.setattr(module, "REPEAT_INTERVAL_S", 0.01)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)]
    with repeated_interrupts():
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                press() if signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0) else time.sleep(10)

    assert (0.0, 0.0) == signal.getitimer(signal.ITIMER_REAL)
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)]
