"""The callers: so many at once, each with one call after the other, over several connections.

Can be paused, so that the server is looked at while nothing runs. Counts how calls ended; an end
that no caller should ever see, or none within a minute, is kept by name.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final, final

from grpc import StatusCode, aio

from soak.mix import GUARD_S, KINDS, Session

CHANNELS: Final = 4
OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # else all channels of one address share a connection
    ("grpc.max_receive_message_length", 64 * 2**20),
)
CUT_OFF: Final = ("CANCELLED", "DEADLINE_EXCEEDED")
UNFORESEEN: Final = frozenset({"INTERNAL_ERROR"})
"""Reasons that are a fault of the service's own."""


@final
class Load:
    """Callers of one server. `calls` have ended so far, `most` is where they stop."""

    def __init__(
        self, address: str, kinds: Sequence[str], *, callers: int, seed: int, most: int | None
    ) -> None:
        self.calls = 0
        self.ended: Counter[tuple[str, str]] = Counter()
        """By kind and by status with its reason."""
        self.wrong: Counter[str] = Counter()
        """Ends that should not be."""
        self._address = address
        self._kinds = [KINDS[kind] for kind in kinds]
        self._names = list(kinds)
        self._weights = [KINDS[kind].weight for kind in kinds]
        self._most = most
        self._dice = random.Random(seed)
        self._channels = [self._channel() for _ in range(CHANNELS)]
        self._open = asyncio.Event()
        self._running = 0
        self._begun = 0
        self._idle = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._caller(random.Random(f"{seed}/{number}"))) for number in range(callers)
        ]

    @property
    def done(self) -> bool:
        """Whether as many calls were begun as were wanted."""
        return self._most is not None and self._begun >= self._most

    @property
    def cut_off(self) -> int:
        """How many were cancelled or ran into a deadline."""
        return sum(times for (_, ending), times in self.ended.items() if ending.startswith(CUT_OFF))

    def resume(self) -> None:
        self._open.set()

    async def pause(self) -> None:
        """Begin no more calls, and wait for those that run."""
        self._open.clear()
        self._idle.clear()
        if self._running:
            await self._idle.wait()

    async def change_a_connection(self) -> None:
        """Close one connection and use another from now on. To be called in a pause."""
        old = self._channels.pop(0)
        self._channels.append(self._channel())
        await old.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    def _channel(self) -> aio.Channel:
        return aio.insecure_channel(self._address, options=OPTIONS)

    async def _caller(self, dice: random.Random) -> None:
        while not self.done:
            await self._open.wait()
            if self.done:
                return
            self._begun += 1
            self._running += 1
            try:
                await self._one_call(dice)
            finally:
                self.calls += 1
                self._running -= 1
                if not self._running:
                    self._idle.set()

    async def _one_call(self, dice: random.Random) -> None:
        (number,) = dice.choices(range(len(self._kinds)), self._weights)
        name = self._names[number]
        session = Session(channel=dice.choice(self._channels), dice=dice)
        try:
            async with asyncio.timeout(GUARD_S):
                ending = await self._kinds[number].act(session) or "OK"
        except aio.AioRpcError as error:
            reason = dict(error.trailing_metadata() or ()).get("x-error-reason", "")
            ending = f"{error.code().name} {reason}".strip()
            if reason in UNFORESEEN or error.code() is StatusCode.UNKNOWN:
                self.wrong[f"{name}: {ending}: {error.details()}"] += 1
        except TimeoutError:
            ending = "no end"
            self.wrong[f"{name}: no end within {GUARD_S:g} s"] += 1
        self.ended[name, ending] += 1
