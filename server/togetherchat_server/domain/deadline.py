"""A time limit that raises a `ServiceError`."""

import asyncio
from types import TracebackType
from typing import final

from togetherchat_server.domain.reasons import Reason, ServiceError


@final
class Deadline:
    """`async with Deadline(seconds, reason, message)` cancels a body that takes longer, and raises.

    It uses `asyncio.timeout`: on Python 3.11 `asyncio.wait_for` swallows a cancel that races with the
    result. A TimeoutError raised by the body passes unchanged.
    """

    __slots__ = ("_message", "_reason", "_timer")

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
