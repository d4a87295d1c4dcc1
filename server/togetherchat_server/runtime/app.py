"""Starts, drains and stops the service.

A test builds an `App`, starts it on port 0, calls it and stops it. Clock, randomness and log are
arguments (`Environment`). Signals and environment variables are handled in `process.py` and in
`cli`. `wiring.py` creates the parts.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from togetherchat_server.calls.admission import Admission
from togetherchat_server.config import Configuration, ProviderConfig, Settings
from togetherchat_server.config.listen_address import loopback_host
from togetherchat_server.runtime.observability import Environment, Observability
from togetherchat_server.runtime.wiring import Frontends, Wiring
from togetherchat_server.runtime.worker_share import SINGLE_PROCESS, WorkerShare
from togetherchat_server.telemetry.metrics.collector import MetricsCollector

if TYPE_CHECKING:
    from togetherchat_sandbox import Sandbox

# The last part of the drain timeout: unfinished calls receive their DRAINING status in it.
ABORT_GRACE_S: Final = 1.0
# After the GOAWAY, calls that gRPC has already received are still admitted for this long, and requests
# that arrive on idle HTTP connections are served.
GOAWAY_SETTLE_S: Final = 0.2
# Before that, what streams have received is passed on.
FLUSH_S: Final = 0.05

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundAddresses:
    """Addresses of the listeners (None: off), and the base URL of the provider or sandbox."""

    grpc: str
    http: str | None
    admin: str | None
    health: str | None
    provider_url: str


@final
class App:
    """The whole service in one process.

    Raises:
        SettingsError: the aliases, the API keys file or the tenants file is invalid.
    """

    def __init__(
        self, configuration: Configuration, environment: Environment, share: WorkerShare = SINGLE_PROCESS
    ) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._resources = AsyncExitStack()
        self._observability = Observability(configuration, environment, self._resources, ready=self._ready)
        self._wiring = Wiring(configuration, environment, self._resources, self._observability, share)
        self._frontends: Frontends | None = None

    @property
    def metrics(self) -> MetricsCollector:
        """The metrics of this process."""
        return self._observability.metrics

    @property
    def in_flight(self) -> int:
        """The number of calls in flight."""
        return self._wiring.admission.in_flight

    @property
    def queued(self) -> int:
        """The number of calls in the admission queue."""
        return self._wiring.admission.queued

    @property
    def admission(self) -> Admission:
        """The admission control, for tests that change its limits."""
        return self._wiring.admission

    @property
    def frontends(self) -> Frontends:
        """The gRPC server and the HTTP server. Only after `start`."""
        if self._frontends is None:
            raise RuntimeError("the app has not been started; call start() first")
        return self._frontends

    async def start(self) -> BoundAddresses:
        """Open every listener and serve.

        Raises:
            OSError: an address cannot be bound, or the audit log cannot be opened.
        """
        try:
            log = self._observability.open_log()
            self._observability.open_audit_log()
            await self._wiring.start_accounting()
            provider = self._configuration.provider or await self._start_sandbox()
            frontends = self._wiring.frontends(provider, log)
            grpc, health = await frontends.grpc.start(self._settings.grpc_listen)
            self._resources.push_async_callback(frontends.grpc.close)
            http = await self._start_http(frontends)
            admin = await self._observability.open_admin()
        except BaseException:
            await self._resources.aclose()
            raise
        self._observability.start()
        self._frontends = frontends
        frontends.grpc.health.set_serving(True, reason="started")
        return BoundAddresses(
            grpc=grpc, http=http, admin=admin, health=health, provider_url=provider.base_url
        )

    async def stop(
        self, *, drain_delay_s: float = 0.0, stop_now: asyncio.Event | None = None, replaced: bool = False
    ) -> None:
        """Report NOT_SERVING, accept calls for `drain_delay_s`, wait for calls in flight, then close.

        Setting `stop_now` ends every wait; calls still in flight fail with DRAINING. If `replaced`,
        another worker serves at this address already. Then NOT_SERVING is not sent: a client that
        receives it fails its calls until it has reconnected, while calls of a client whose
        connection is closed wait for the new connection.
        """
        stop_now = stop_now or asyncio.Event()
        if self._frontends is not None:
            if not replaced:
                self._frontends.grpc.health.withdraw(reason="stopping")
                await _wait(stop_now, drain_delay_s)
            await self._drain(self._frontends, stop_now)
        await self._resources.aclose()

    async def _drain(self, frontends: Frontends, stop_now: asyncio.Event) -> None:
        grpc, http, admission = frontends.grpc, frontends.http, self._wiring.admission
        drain_timeout_s = self._settings.drain_timeout_s
        idle = asyncio.Event()
        stopping = asyncio.create_task(grpc.stop_accepting(drain_timeout_s + ABORT_GRACE_S))
        if http is not None:
            http.stop_accepting()
        # Calls that gRPC received before its GOAWAY are still queued in the event loop: admit them.
        await _wait(stop_now, GOAWAY_SETTLE_S)
        if http is not None:
            http.close_idle()
        grpc.health.end_watches()
        admission.start_draining(idle.set)
        waits = [asyncio.create_task(event.wait()) for event in (idle, stop_now)]
        await asyncio.wait(
            waits, timeout=max(0.0, drain_timeout_s - ABORT_GRACE_S), return_when=asyncio.FIRST_COMPLETED
        )
        for wait in waits:
            wait.cancel()
        if not idle.is_set():
            _log.warning("drain timeout: aborting %d calls in flight", admission.in_flight)
            self._wiring.governor.stop()
            await _wait(stop_now, FLUSH_S)
            frontends.sessions.abort_in_flight()
        if http is not None:
            await http.finish(ABORT_GRACE_S)
        await grpc.finish(ABORT_GRACE_S)
        await stopping

    async def _start_sandbox(self) -> ProviderConfig:
        sandbox = await self._resources.enter_async_context(make_sandbox(self._settings))
        return ProviderConfig(base_url=sandbox.base_url, key=None)

    async def _start_http(self, frontends: Frontends) -> str | None:
        address = self._settings.http_listen
        if frontends.http is None or address is None:
            return None
        bound = await frontends.http.start(address, socket_mode=self._settings.unix_socket_mode)
        self._resources.push_async_callback(frontends.http.close)
        return bound

    def _ready(self) -> bool:
        return self._frontends is not None and self._frontends.grpc.health.serving


def make_sandbox(settings: Settings, *, port: int = 0) -> "Sandbox":
    """Create the sandbox from the settings. The caller starts it."""
    # Imported on use: loading takes a quarter of the start of a process that does not need it.
    from togetherchat_sandbox import Sandbox, SandboxSettings  # noqa: PLC0415

    pacing = SandboxSettings(tokens_per_second=settings.sandbox_tokens_per_second)
    return Sandbox(pacing, host=loopback_host(), port=port)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for the event, at most `timeout_s`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
