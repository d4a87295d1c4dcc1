"""What Ctrl-C does."""

import signal
import time

import pytest

from togetherchat_client.cli import interrupts as module
from togetherchat_client.cli.interrupts import InterruptHandler, repeated_interrupts


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_while_a_line_is_typed_it_raises():
    """Nothing else ends the waiting for a line."""
    with InterruptHandler() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.raising():
        press()


def test_pressed_again_it_raises_again():
    """An exception can get lost on its way; the next one must not."""
    with InterruptHandler() as interrupts, interrupts.raising():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                press()


def test_what_handles_it_is_not_hit():
    """After the line there is nothing to interrupt."""
    with InterruptHandler() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.raising():
            press()
        press()


def test_while_an_answer_comes_it_cancels():
    """As often as it is pressed, for cancelling twice is cancelling once."""
    cancelled = []
    with InterruptHandler() as interrupts, interrupts.cancelling(lambda: cancelled.append(True)):
        press()
        press()
    assert [True, True] == cancelled


def test_between_the_two_it_does_nothing():
    """There is nothing to interrupt."""
    with InterruptHandler() as interrupts:
        with interrupts.raising():
            pass
        press()


def test_afterwards_all_is_as_before():
    """Whoever calls the command keeps the handler that was set."""
    before = signal.getsignal(signal.SIGINT)
    with InterruptHandler():
        pass
    assert before == signal.getsignal(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no such timer on Windows")
def test_an_exception_that_got_lost_comes_again(monkeypatch):
    """Pressed once, it is raised until the command ends; afterwards everything is as it was."""
    monkeypatch.setattr(module, "REPEAT_INTERVAL_S", 0.01)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)]
    with repeated_interrupts():
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                press() if signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0) else time.sleep(10)

    assert (0.0, 0.0) == signal.getitimer(signal.ITIMER_REAL)
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)]
