"""The deadline of a call, and the time limit that raises a `ServiceError`."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Final, final

from togetherchat_server.domain.reasons import Reason, ServiceError

DEADLINE_MESSAGES: Final[Mapping[Reason, str]] = {
    Reason.CALLER_DEADLINE: "the caller's deadline passed before the response was complete",
    Reason.CALL_TIMEOUT: "the call took longer than the service allows",
}
WRITE_TIMEOUT_MESSAGE: Final = "the caller read nothing within the write timeout"

MARGIN_MIN_S: Final = 0.1
MARGIN_RATIO: Final = 0.01
MARGIN_RATIO_MAX: Final = 0.2


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


def deadline_margin_s(seconds_left: float) -> float:
    """Return how long before the caller's deadline the service ends the call.

    The status, which names the reason, must arrive before the caller's own timer fires. `grpc-timeout`
    is rounded up on its way by up to 1%, so the margin grows with the time left. The margin never exceeds a
    fifth of a short deadline.
    """
    return min(max(MARGIN_MIN_S, MARGIN_RATIO * seconds_left), MARGIN_RATIO_MAX * max(seconds_left, 0.0))
