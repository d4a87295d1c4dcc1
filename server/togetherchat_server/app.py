"""Start, serve, drain, stop.

`App` is a value: a test builds one, starts it on port 0, calls it and stops it. Clocks and
randomness come from outside. Knows no signal and no environment; `command` does. What it is made
of is known to `assembly` alone.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from togetherchat_server.assembly import ALONE, Assembly, Fronts, Shared
from togetherchat_server.config import Configuration, Settings, Upstream
from togetherchat_server.observe.metrics.meters import Meters
from togetherchat_server.observers import Observers, Outside

if TYPE_CHECKING:
    from togetherchat_sandbox import Sandbox

# The rest of the drain, in which calls that did not finish are told so.
FAREWELL_S: Final = 1.0
# How long after the GOAWAY calls that came before it are still taken up.
STRAGGLERS_S: Final = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the app is reached; None where it is not."""

    rpc: str
    http: str | None
    admin: str | None
    health: str | None
    upstream: str


@final
class App:
    """The whole service in one process.

    Raises:
        SettingsError: the aliases, or a file of tenants, cannot be used.
    """

    def __init__(self, configuration: Configuration, outside: Outside, shared: Shared = ALONE) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._resources = AsyncExitStack()
        self._observers = Observers(configuration, outside, self._resources, ready=self._ready)
        self._parts = Assembly(configuration, outside, self._resources, self._observers, shared)
        self._fronts: Fronts | None = None

    @property
    def meters(self) -> Meters:
        """What this process has counted."""
        return self._observers.meters

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._parts.admission.waiting

    @property
    def in_flight(self) -> int:
        """Calls that have a place."""
        return self._parts.admission.in_flight

    async def start(self) -> Addresses:
        """Open everything and serve.

        Raises:
            OSError: an address cannot be bound.
        """
        try:
            log = self._observers.open_log()
            upstream = self._configuration.upstream or await self._open_sandbox()
            fronts = self._parts.fronts(upstream, log)
            rpc, health = await fronts.rpc.start(self._settings.listen)
            self._resources.push_async_callback(fronts.rpc.close)
            http = await self._start_door(fronts)
            admin = await self._observers.open_admin()
        except BaseException:
            await self._resources.aclose()
            raise
        self._observers.start()
        self._fronts = fronts
        fronts.rpc.health.set_serving(True, reason="started")
        return Addresses(rpc=rpc, http=http, admin=admin, health=health, upstream=upstream.base_url)

    async def stop(
        self, *, propagation_s: float = 0.0, hurry: asyncio.Event | None = None, replaced: bool = False
    ) -> None:
        """Drain and close: say so to who asks, keep taking calls for `propagation_s`, let running ones end.

        Setting `hurry` ends every wait at once; what still runs is told DRAINING. Where this
        process is `replaced` at its address nothing is said: a client that hears NOT_SERVING
        fails its calls until it has connected anew, one that sees its connection end lets them
        wait.
        """
        fronts, hurry = self._fronts, hurry or asyncio.Event()
        if fronts is not None and not replaced:
            fronts.rpc.health.withdraw(reason="stopping")
            await _wait(hurry, propagation_s)
        if fronts is not None:
            await self._drain(fronts, hurry)
        await self._resources.aclose()

    async def _drain(self, fronts: Fronts, hurry: asyncio.Event) -> None:
        front, door, admission = fronts.rpc, fronts.http, self._parts.admission
        drain_s = self._settings.drain_s
        idle = asyncio.Event()
        stopping = asyncio.create_task(front.stop_accepting(drain_s + FAREWELL_S))
        if door is not None:
            door.stop_accepting()
        # What gRPC took before its GOAWAY is still on the way through the loop: it may finish.
        await _wait(hurry, STRAGGLERS_S)
        front.health.end_watches()
        admission.refuse_new_calls(idle.set)
        waits = [asyncio.create_task(event.wait()) for event in (idle, hurry)]
        await asyncio.wait(waits, timeout=max(0.0, drain_s - FAREWELL_S), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not idle.is_set():
            _log.warning("%d calls did not end in time", admission.in_flight)
            front.abort_running()
            if door is not None:
                door.abort_running()
        if door is not None:
            await door.finish(FAREWELL_S)
        await front.finish(FAREWELL_S)
        await stopping

    async def _open_sandbox(self) -> Upstream:
        sandbox = await self._resources.enter_async_context(simulator(self._settings))
        return Upstream(base_url=sandbox.base_url, key=None)

    async def _start_door(self, fronts: Fronts) -> str | None:
        if fronts.http is None:
            return None
        address = await fronts.http.start(self._settings.http)
        self._resources.push_async_callback(fronts.http.close)
        return address

    def _ready(self) -> bool:
        return self._fronts is not None and self._fronts.rpc.health.serving


def simulator(settings: Settings, *, port: int = 0) -> "Sandbox":
    """The simulator as it is set, not yet started."""
    # Loaded where it is wanted: it takes a quarter of the start of a process that can do without.
    from togetherchat_sandbox import Sandbox, SandboxSettings  # noqa: PLC0415

    pacing = SandboxSettings(tokens_per_second=settings.sandbox_tokens_per_second)
    return Sandbox(pacing, host="127.0.0.1", port=port)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
