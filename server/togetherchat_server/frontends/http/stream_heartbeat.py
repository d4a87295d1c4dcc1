"""Sends a comment to the reader of a stream whenever nothing else was sent for a while.

Load balancers close a connection that is silent for 60 to 120 seconds, and a model may process a long
prompt, or think, for longer. The first comment also sends the status: a failure after it can only be an
event of the stream. So the operator decides (`--http-heartbeat-s`).
"""

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, final

from togetherchat_server.frontends.http.exchange import Exchange
from togetherchat_server.frontends.lazy_timer import LazyTimer

COMMENT: Final = b": keep-alive\n\n"


@final
class StreamHeartbeat:
    """`async with` around a stream; call `sent` after each write.

    A comment is written between two writes of the stream's task, never within one: while the peer reads,
    neither waits. Nothing is written to a peer that does not read: the stream's next write detects it.

    Args:
        exchange: of the stream.
        interval_s: longest silence, in seconds; None: no comments.
        headers: returns the headers, as they are known when the status is sent.
    """

    __slots__ = ("_exchange", "_headers", "_interval_s", "_task", "_timer")

    def __init__(
        self,
        exchange: Exchange,
        interval_s: float | None,
        *,
        headers: Callable[[], Iterable[tuple[str, str]]],
    ) -> None:
        self._exchange = exchange
        self._interval_s = interval_s
        self._headers = headers
        self._timer: LazyTimer | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._interval_s is not None:
            self._timer = LazyTimer(asyncio.get_running_loop(), self._on_silence)
            self._timer.start(self._interval_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    async def start(self) -> None:
        """Send the status, unless it was sent."""
        if not self._exchange.started:
            await self._exchange.start(HTTPStatus.OK, self._headers())

    def sent(self) -> None:
        """Restart the time: something was written."""
        if self._timer is not None and self._interval_s is not None:
            self._timer.start(self._interval_s)

    def _on_silence(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._comment())

    async def _comment(self) -> None:
        exchange = self._exchange
        if self._timer is None or exchange.finished:
            return
        if not exchange.stalled:
            await self.start()
            await exchange.write(COMMENT)
        self.sent()
