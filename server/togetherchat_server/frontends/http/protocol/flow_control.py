"""Back-pressure on one connection, both ways."""

import asyncio
from typing import final


@final
class FlowControl:
    """Pauses reading while input is not consumed, and tracks whether the client reads the output."""

    __slots__ = ("_reads", "_stalled", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reads = True
        self._stalled: asyncio.Event | None = None
        """Set when the client reads again. Created when needed: most connections never stall."""

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
        """Whether the unsent bytes exceed asyncio's high-water mark."""
        return self._stalled is not None

    def stall(self) -> None:
        """Record that the unsent bytes exceed asyncio's high-water mark."""
        if self._stalled is None:
            self._stalled = asyncio.Event()

    def unstall(self) -> None:
        """Record that the unsent bytes are below the low-water mark, or that the connection is lost."""
        if self._stalled is not None:
            self._stalled.set()
            self._stalled = None

    async def drained(self) -> None:
        """Wait until the client has read enough, or has disconnected."""
        if self._stalled is not None:
            await self._stalled.wait()

    def write(self, data: bytes) -> None:
        """Write to the transport, unless the connection is closing."""
        if not self._transport.is_closing():
            self._transport.write(data)
