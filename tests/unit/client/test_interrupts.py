"""Tests of the handling of Ctrl-C."""

import signal
import time

import pytest

from togetherchat_client.cli import interrupts as module
from togetherchat_client.cli.interrupts import InterruptHandler, repeated_interrupts


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_raises_while_a_line_is_typed():
    """Nothing else ends `input`."""
    with InterruptHandler() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.raising():
        press()


def test_each_ctrl_c_raises_again():
    """An exception can be swallowed, so the next Ctrl-C raises too."""
    with InterruptHandler() as interrupts, interrupts.raising():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                press()


def test_ctrl_c_after_the_line_is_ignored():
    """The code that handles the first KeyboardInterrupt is not interrupted."""
    with InterruptHandler() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.raising():
            press()
        press()


def test_ctrl_c_cancels_while_a_completion_streams():
    """Each Ctrl-C calls `cancel`, which is idempotent."""
    cancelled = []
    with InterruptHandler() as interrupts, interrupts.cancelling(lambda: cancelled.append(True)):
        press()
        press()
    assert [True, True] == cancelled


def test_ctrl_c_does_nothing_at_other_times():
    """Outside of both contexts nothing can be interrupted."""
    with InterruptHandler() as interrupts:
        with interrupts.raising():
            pass
        press()


def test_the_previous_handler_is_restored():
    """The caller of the command keeps its own SIGINT handler."""
    before = signal.getsignal(signal.SIGINT)
    with InterruptHandler():
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
