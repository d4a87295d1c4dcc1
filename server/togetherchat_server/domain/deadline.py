"""A limit of time that ends as a `ServiceError`."""

import asyncio
from types import TracebackType
from typing import final

from togetherchat_server.domain.reasons import Reason, ServiceError


@final
class Deadline:
    """`async with Deadline(seconds, reason, message)`: what takes longer is cancelled and raises.

    `asyncio.timeout` rather than `asyncio.wait_for`, which on Python 3.11 swallows a cancel
    that races with the result. A TimeoutError of the work itself passes unchanged.
    """

    __slots__ = ("_reason", "_message", "_timer")

    def __init__(self, seconds: float, reason: Reason, message: str) -> None:
        self._timer = asyncio.timeout(seconds)
        self._reason = reason
        self._message = message

    async def __aenter__(self) -> None:
        await self._timer.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timer.__aexit__(kind, error, trace)
        except TimeoutError as exc:
            raise ServiceError(self._reason, self._message) from exc
