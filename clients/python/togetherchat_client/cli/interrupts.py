"""Handling of Ctrl-C (SIGINT), in a command that makes one call and in a chat.

One call. Ctrl-C raises KeyboardInterrupt, as Python does by default. An exception raised while gRPC's
code runs was seen to be swallowed, so the exception is raised again until the command ends.

A chat continues after Ctrl-C, so an exception at an arbitrary point is not safe: it can hit the
handling of the previous Ctrl-C and end the chat, or be swallowed in gRPC. While a completion streams,
Ctrl-C cancels the call, and the stream then ends by itself. While the user types a line, Ctrl-C
raises, because nothing else ends `input`. At any other time Ctrl-C does nothing.
"""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import CodeType, FrameType, TracebackType
from typing import Self

REPEAT_INTERVAL_S = 0.5


@contextmanager
def repeated_interrupts() -> Generator[None, None, None]:
    """In this context Ctrl-C raises KeyboardInterrupt, and again every half second until the exit."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, REPEAT_INTERVAL_S)
        raise KeyboardInterrupt

    before = [(number, signal.signal(number, interrupt)) for number in (signal.SIGINT, signal.SIGALRM)]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)


class InterruptHandler:
    """The handler of Ctrl-C in a chat. Leaving its `with` restores the previous handler.

    Args:
        interruptible: the code of the function that calls `input`. Ctrl-C raises KeyboardInterrupt in
            this code only. Code that handles the exception is other code, so nothing interrupts it,
            however fast signals follow each other.

    """

    def __init__(self, interruptible: CodeType) -> None:
        self._interruptible = interruptible
        self._cancel: Callable[[], None] | None = None

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
    def cancelling(self, cancel: Callable[[], None]) -> Generator[None, None, None]:
        """In this context each Ctrl-C calls `cancel`."""
        self._cancel = cancel
        try:
            yield
        finally:
            self._cancel = None

    def _receive(self, _number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code is self._interruptible:
            raise KeyboardInterrupt
        if self._cancel is not None:
            self._cancel()
