"""Enforces the timeouts of a stream with one timer for all of its reads.

A timeout around each read sets a timer of the event loop and cancels it again, for each token. Here the
timer is set once; when it fires too early, because bytes have arrived since, it is set again for the
rest of the time.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, final

from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.upstream.stream_timeouts import TIMEOUT_MESSAGES, StreamTimeouts


@final
class StreamDeadline:
    """`async with` around a stream, with `begin_read` and `end_read` around each read.

    A read that takes too long is cancelled, and a `ServiceError` is raised with the reason of the
    timeout. As `asyncio.timeout` does, it passes on a cancel of the task that comes at the same time.
    Between two reads nothing is cancelled: a generator may yield, and be closed by another task.
    """

    def __init__(self, timeouts: StreamTimeouts, *, clock: Callable[[], float]) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._cancelling = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._reading = False

    async def __aenter__(self) -> Self:
        await self._cancelling.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._cancelling.__aexit__(kind, error, trace)
        except TimeoutError as exc:
            reason = self._timeouts.deadline()[1]
            raise ServiceError(reason, TIMEOUT_MESSAGES[reason]) from exc

    def begin_read(self) -> None:
        deadline_s, _ = self._timeouts.deadline()
        if self._timer is None or deadline_s < self._timer_s:
            self._set_timer(deadline_s)
        self._reading = True

    def end_read(self) -> None:
        self._reading = False
        if self._cancelling.when() is not None:  # the bytes arrived in the same iteration of the loop
            self._cancelling.reschedule(None)

    def _set_timer(self, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_s = deadline_s
        self._timer = loop.call_later(deadline_s - self._clock(), self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._reading:
            return  # the next read sets the timer
        deadline_s, _ = self._timeouts.deadline()
        if self._clock() < deadline_s:
            self._set_timer(deadline_s)
        else:
            self._cancelling.reschedule(asyncio.get_running_loop().time())
