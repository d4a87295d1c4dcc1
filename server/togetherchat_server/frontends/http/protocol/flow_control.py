"""Back-pressure on one connection, both ways."""

import asyncio
from typing import final


@final
class FlowControl:
    """Stops reading what nobody takes, and knows whether the caller takes what is sent."""

    __slots__ = ("_reads", "_stalled", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reads = True
        self._stalled: asyncio.Event | None = None
        """What waits for the caller waits for this. Most connections never need one."""

    def pause_reading(self) -> None:
        if self._reads:
            self._reads = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reads:
            self._reads = True
            self._transport.resume_reading()

    @property
    def stalled(self) -> bool:
        """Whether more waits to be sent than the caller should make the service keep."""
        return self._stalled is not None

    def stall(self) -> None:
        """More waits than asyncio's high-water mark."""
        if self._stalled is None:
            self._stalled = asyncio.Event()

    def unstall(self) -> None:
        """Less waits than asyncio's low-water mark, or the connection is lost."""
        if self._stalled is not None:
            self._stalled.set()
            self._stalled = None

    async def drained(self) -> None:
        """Wait until the caller takes more, or has left."""
        if self._stalled is not None:
            await self._stalled.wait()

    def write(self, data: bytes) -> None:
        """Send, unless the connection is closing."""
        if not self._transport.is_closing():
            self._transport.write(data)
