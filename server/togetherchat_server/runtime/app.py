"""Start, serve, drain, stop.

`App` is a value: a test builds one, starts it on port 0, calls it and stops it. Clocks and
randomness come from environment. Knows no signal and no environment; `command` does. What it is made
of is known to `assembly` alone.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from togetherchat_server.config import Configuration, ProviderConfig, Settings
from togetherchat_server.runtime.observability import Environment, Observability
from togetherchat_server.runtime.wiring import SINGLE_PROCESS, Frontends, Wiring, WorkerShare
from togetherchat_server.telemetry.metrics.collector import MetricsCollector

if TYPE_CHECKING:
    from togetherchat_sandbox import Sandbox

# The rest of the drain, in which calls that did not finish are told so.
ABORT_GRACE_S: Final = 1.0
# How long after the GOAWAY calls that came before it are still taken up.
STRAGGLERS_S: Final = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundAddresses:
    """Where the app is reached; None where it is not."""

    grpc: str
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

    def __init__(
        self, configuration: Configuration, environment: Environment, shared: WorkerShare = SINGLE_PROCESS
    ) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._resources = AsyncExitStack()
        self._observability = Observability(configuration, environment, self._resources, ready=self._ready)
        self._parts = Wiring(configuration, environment, self._resources, self._observability, shared)
        self._frontends: Frontends | None = None

    @property
    def metrics(self) -> MetricsCollector:
        """The metrics of this process."""
        return self._observability.metrics

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._parts.admission.queued

    @property
    def in_flight(self) -> int:
        """Calls that have a place."""
        return self._parts.admission.in_flight

    async def start(self) -> BoundAddresses:
        """Open everything and serve.

        Raises:
            OSError: an address cannot be bound.
        """
        try:
            log = self._observability.open_log()
            upstream = self._configuration.upstream or await self._open_sandbox()
            frontends = self._parts.frontends(upstream, log)
            rpc, health = await frontends.grpc.start(self._settings.grpc_listen)
            self._resources.push_async_callback(frontends.grpc.close)
            http = await self._start_http(frontends)
            admin = await self._observability.open_admin()
        except BaseException:
            await self._resources.aclose()
            raise
        self._observability.start()
        self._frontends = frontends
        frontends.grpc.health.set_serving(True, reason="started")
        return BoundAddresses(grpc=rpc, http=http, admin=admin, health=health, upstream=upstream.base_url)

    async def stop(
        self, *, drain_delay_s: float = 0.0, hurry: asyncio.Event | None = None, replaced: bool = False
    ) -> None:
        """Drain and close: say so to who asks, keep taking calls for `drain_delay_s`, let running ones end.

        Setting `hurry` ends every wait at once; what still runs is told DRAINING. Where this
        process is `replaced` at its address nothing is said: a client that hears NOT_SERVING
        fails its calls until it has connected anew, one that sees its connection end lets them
        wait.
        """
        frontends, hurry = self._frontends, hurry or asyncio.Event()
        if frontends is not None and not replaced:
            frontends.grpc.health.withdraw(reason="stopping")
            await _wait(hurry, drain_delay_s)
        if frontends is not None:
            await self._drain(frontends, hurry)
        await self._resources.aclose()

    async def _drain(self, frontends: Frontends, hurry: asyncio.Event) -> None:
        front, door, admission = frontends.grpc, frontends.http, self._parts.admission
        drain_timeout_s = self._settings.drain_timeout_s
        idle = asyncio.Event()
        stopping = asyncio.create_task(front.stop_accepting(drain_timeout_s + ABORT_GRACE_S))
        if door is not None:
            door.stop_accepting()
        # What gRPC took before its GOAWAY is still on the way through the loop: it may finish.
        await _wait(hurry, STRAGGLERS_S)
        front.health.end_watches()
        admission.start_draining(idle.set)
        waits = [asyncio.create_task(event.wait()) for event in (idle, hurry)]
        await asyncio.wait(
            waits, timeout=max(0.0, drain_timeout_s - ABORT_GRACE_S), return_when=asyncio.FIRST_COMPLETED
        )
        for wait in waits:
            wait.cancel()
        if not idle.is_set():
            _log.warning("%d calls did not end in time", admission.in_flight)
            front.abort_in_flight()
            if door is not None:
                door.abort_in_flight()
        if door is not None:
            await door.finish(ABORT_GRACE_S)
        await front.finish(ABORT_GRACE_S)
        await stopping

    async def _open_sandbox(self) -> ProviderConfig:
        sandbox = await self._resources.enter_async_context(simulator(self._settings))
        return ProviderConfig(base_url=sandbox.base_url, key=None)

    async def _start_http(self, frontends: Frontends) -> str | None:
        address = self._settings.http_listen
        if frontends.http is None or address is None:
            return None
        bound = await frontends.http.start(address)
        self._resources.push_async_callback(frontends.http.close)
        return bound

    def _ready(self) -> bool:
        return self._frontends is not None and self._frontends.grpc.health.serving


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
