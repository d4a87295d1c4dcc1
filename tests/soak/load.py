"""Generates load: concurrent callers that each make one call after the other, over several connections.

The load can be paused, so that the server is measured while no call runs. Counts how calls ended.
An outcome that no caller should ever see, or a call without an end within a minute, is an error.
"""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final, final

from grpc import StatusCode, aio

from soak.scenarios import CALL_TIMEOUT_S, SCENARIOS, Caller

CHANNELS: Final = 4
OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # otherwise all channels to an address share a connection
    ("grpc.max_receive_message_length", 64 * 2**20),
)
CUT_OFF: Final = ("CANCELLED", "DEADLINE_EXCEEDED")
SERVICE_FAULTS: Final = frozenset({"INTERNAL_ERROR"})
"""Reasons that are a bug of the service."""


@final
class Load:
    """Callers of one server. `calls` counts finished calls; the load ends after `max_calls`."""

    def __init__(
        self, address: str, scenarios: Sequence[str], *, callers: int, seed: int, max_calls: int | None
    ) -> None:
        self.calls = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Finished calls by scenario, and by status with reason."""
        self.errors: Counter[str] = Counter()
        """Outcomes that must not occur."""
        self._address = address
        self._scenarios = [SCENARIOS[name] for name in scenarios]
        self._names = list(scenarios)
        self._weights = [SCENARIOS[name].weight for name in scenarios]
        self._max_calls = max_calls
        self._channels = [self._channel() for _ in range(CHANNELS)]
        self._resumed = asyncio.Event()
        self._running = 0
        self._started = 0
        self._idle = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._caller(random.Random(f"{seed}/{number}"))) for number in range(callers)
        ]

    @property
    def done(self) -> bool:
        """Whether `max_calls` calls were started."""
        return self._max_calls is not None and self._started >= self._max_calls

    @property
    def cut_off(self) -> int:
        """The number of calls that were cancelled or exceeded their deadline."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome.startswith(CUT_OFF))

    def resume(self) -> None:
        self._resumed.set()

    async def pause(self) -> None:
        """Start no more calls, and wait until the running ones have ended."""
        self._resumed.clear()
        self._idle.clear()
        if self._running:
            await self._idle.wait()

    async def replace_connection(self) -> None:
        """Close one connection and open another. Only to be called while paused."""
        old = self._channels.pop(0)
        self._channels.append(self._channel())
        await old.close()
        del old
        gc.collect()  # a closed channel keeps its connection until it is collected

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    def _channel(self) -> aio.Channel:
        return aio.insecure_channel(self._address, options=OPTIONS)

    async def _caller(self, rng: random.Random) -> None:
        while not self.done:
            await self._resumed.wait()
            if self.done:
                return
            self._started += 1
            self._running += 1
            try:
                await self._one_call(rng)
            finally:
                self.calls += 1
                self._running -= 1
                if not self._running:
                    self._idle.set()

    async def _one_call(self, rng: random.Random) -> None:
        (number,) = rng.choices(range(len(self._scenarios)), self._weights)
        name = self._names[number]
        caller = Caller(channel=rng.choice(self._channels), rng=rng)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                outcome = await self._scenarios[number].run(caller) or "OK"
        except aio.AioRpcError as error:
            reason = dict(error.trailing_metadata() or ()).get("x-error-reason", "")
            outcome = f"{error.code().name} {reason}".strip()
            if reason in SERVICE_FAULTS or error.code() is StatusCode.UNKNOWN:
                self.errors[f"{name}: {outcome}: {error.details()}"] += 1
        except TimeoutError:
            outcome = "no end"
            self.errors[f"{name}: no end within {CALL_TIMEOUT_S:g} s"] += 1
        self.outcomes[name, outcome] += 1
