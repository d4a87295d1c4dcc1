"""What Ctrl-C does: in a command that asks once, and in a chat.

A command that asks once ends by Python's own way, an exception, which inside of gRPC was seen to
be swallowed: so there it comes again until the command has ended.

Python's own way, an exception wherever the program happens to be, is not for a program that
goes on afterwards: it can hit the handler of the last Ctrl-C and end the chat, and inside of
gRPC it was seen to be swallowed. So while an answer comes Ctrl-C cancels the call, which
ends the answer from within; only while a line is typed it raises, for nothing else ends
that; and between the two it does nothing.
"""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

AGAIN_S = 0.5


@contextmanager
def insistent() -> Generator[None, None, None]:
    """Here Ctrl-C raises KeyboardInterrupt, and again every half second until this is left."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        raise KeyboardInterrupt

    before = [(number, signal.signal(number, interrupt)) for number in (signal.SIGINT, signal.SIGALRM)]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)


class Interrupts:
    """The handler of Ctrl-C. Use it in a `with`, which gives the old one back."""

    def __init__(self) -> None:
        self._action: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def typing(self) -> Generator[None, None, None]:
        """Here Ctrl-C raises KeyboardInterrupt, each time: `input` fails on a handler that does not."""
        yield from self._during(_interrupt)

    @contextmanager
    def answering(self, cancel: Callable[[], None]) -> Generator[None, None, None]:
        """Here Ctrl-C calls `cancel`, as often as it is pressed."""
        yield from self._during(cancel)

    def _during(self, action: Callable[[], None]) -> Generator[None, None, None]:
        self._action = action
        try:
            yield
        finally:
            self._action = None

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self._action is not None:
            self._action()


def _interrupt() -> None:
    raise KeyboardInterrupt
