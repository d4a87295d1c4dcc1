"""Start and stop: the one place where a front meets a provider.

`App` is a value: a test builds one, starts it on port 0, calls it and stops it. Clocks and
randomness come from outside. Knows no signal and no environment; `__main__` does.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO, final

from togetherchat_sandbox import Sandbox, SandboxSettings
from togetherchat_server.admin import Admin, pages
from togetherchat_server.calls.admission import Admission, AdmissionLimits
from togetherchat_server.calls.checked import CheckedChat
from togetherchat_server.calls.failures import Failures
from togetherchat_server.calls.lifecycle import CallDesk
from togetherchat_server.calls.routing import Router
from togetherchat_server.calls.tenancy import TenantChat
from togetherchat_server.calls.validation import RequestLimits
from togetherchat_server.catalog.aliases import names_of
from togetherchat_server.catalog.catalog import load_catalog
from togetherchat_server.catalog.directory import DirectoryLimits, ModelDirectory
from togetherchat_server.catalog.refusals import Refusals
from togetherchat_server.config import Configuration, Settings, Upstream, is_loopback
from togetherchat_server.fronts.rpc.boundary import Boundary, BoundaryLimits
from togetherchat_server.fronts.rpc.chat import ChatServicer
from togetherchat_server.fronts.rpc.server import ConnectionLimits, Listening, RpcFront
from togetherchat_server.memory import MemoryGauge
from togetherchat_server.observe.figures import Figures
from togetherchat_server.observe.limits import UpstreamLimits
from togetherchat_server.observe.log import CallLog, LineWriter, LogHandler, attach
from togetherchat_server.observe.metrics.meters import Facts, Meters
from togetherchat_server.observe.record import Sink, Spans
from togetherchat_server.ports import Chat, ModelListing
from togetherchat_server.providers.together.provider import Patience, TogetherProvider
from togetherchat_server.tenants.files import files_of
from togetherchat_server.tenants.gate import Gate
from togetherchat_server.tenants.shared_tally import SharedTally
from togetherchat_server.tenants.tally import LocalTally
from togetherchat_server.upstream.attempts import Attempts, Surroundings
from togetherchat_server.upstream.breaker import Breaker
from togetherchat_server.upstream.retry import RetryBudget, RetryPolicy
from togetherchat_server.upstream.transport import Transport, TransportLimits

if TYPE_CHECKING:
    from togetherchat_server.fronts.http.server import HttpFront

OFF: Final = "off"
# The rest of the drain, in which calls that did not finish are told so.
FAREWELL_S: Final = 1.0
# How long after the GOAWAY calls that came before it are still taken up.
STRAGGLERS_S: Final = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the process gives to the app: time, chance, and a place for the log."""

    version: str
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    random: Callable[[], float]
    log: TextIO


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
    """The whole service in one process."""

    def __init__(
        self,
        configuration: Configuration,
        outside: Outside,
        *,
        share_port: bool = False,
        tally: int | None = None,
    ) -> None:
        """With `share_port` other processes may listen on the same addresses; the descriptor `tally` is
        what they share of the limits of tenants.

        Raises:
            SettingsError: the aliases, or a file of tenants, cannot be used.
        """
        self._configuration = configuration
        self._outside = outside
        self._share_port = share_port
        self._resources = AsyncExitStack()
        self._catalog = load_catalog(None)
        self._names = names_of(configuration, self._catalog)
        self._figures = Figures(clock=outside.clock) if configuration.settings.console else None
        self._failures = Failures(per_minute=configuration.settings.failures_per_minute, clock=outside.clock)
        self._front: RpcFront | None = None
        self._door: HttpFront | None = None
        self._gauges: dict[str, Callable[[], int]] = {
            "tasks": lambda: len(asyncio.all_tasks()),
            "memory_blocks": sys.getallocatedblocks,
            "calls_in_flight": lambda: self._admission.in_flight,
            "calls_waiting": lambda: self._admission.waiting,
        }
        self._gate = self._open_gate(configuration.settings, tally)
        self._admission = _admission(configuration.settings, outside, self._gate)
        self.meters = Meters(
            self._gauges,
            facts=Facts(
                version=outside.version,
                calls_max=configuration.settings.calls_max,
                wall_clock=outside.wall_clock,
            ),
            ready=self._ready,
        )

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._admission.waiting

    @property
    def in_flight(self) -> int:
        """Calls that have a place."""
        return self._admission.in_flight

    async def start(self) -> Addresses:
        """Open everything and serve.

        Raises:
            OSError: an address cannot be bound.
        """
        settings = self._configuration.settings
        try:
            log = self._open_log(settings)
            self._show_certificate()
            upstream = self._configuration.upstream or await self._open_sandbox(settings)
            front = self._open_front(settings, upstream, log)
            rpc, health = await front.start(settings.listen)
            self._resources.push_async_callback(front.close)
            http = await self._start_door(settings)
            admin = await self._open_admin(settings)
        except BaseException:
            await self._resources.aclose()
            raise
        self.meters.start()
        self._resources.callback(self.meters.stop)
        self._front = front
        front.health.set_serving(True, reason="started")
        return Addresses(rpc=rpc, http=http, admin=admin, health=health, upstream=upstream.base_url)

    async def stop(
        self, *, propagation_s: float = 0.0, hurry: asyncio.Event | None = None, replaced: bool = False
    ) -> None:
        """Drain and close: say so, keep taking calls for `propagation_s`, let running ones end.

        Setting `hurry` ends every wait at once; what still runs is told DRAINING. Where this
        process is `replaced` at its address nothing is said: a client that hears NOT_SERVING
        fails its calls until it has connected anew, one that sees its connection end lets them
        wait.
        """
        front, hurry = self._front, hurry or asyncio.Event()
        if front is not None and not replaced:
            front.health.set_serving(False, reason="stopping")
            await _wait(hurry, propagation_s)
        if front is not None:
            await self._drain(front, hurry)
        await self._resources.aclose()

    async def _drain(self, front: RpcFront, hurry: asyncio.Event) -> None:
        drain_s = self._configuration.settings.drain_s
        idle = asyncio.Event()
        stopping = asyncio.create_task(front.stop_accepting(drain_s + FAREWELL_S))
        if self._door is not None:
            self._door.stop_accepting()
        # What gRPC took before its GOAWAY is still on the way through the loop: it may finish.
        await _wait(hurry, STRAGGLERS_S)
        front.health.end_watches()
        self._admission.refuse_new_calls(idle.set)
        waits = [asyncio.create_task(event.wait()) for event in (idle, hurry)]
        await asyncio.wait(waits, timeout=max(0.0, drain_s - FAREWELL_S), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not idle.is_set():
            _log.warning("%d calls did not end in time", self._admission.in_flight)
            front.abort_running()
            if self._door is not None:
                self._door.abort_running()
        if self._door is not None:
            await self._door.finish(FAREWELL_S)
        await front.finish(FAREWELL_S)
        await stopping

    def _open_gate(self, settings: Settings, tally: int | None) -> Gate | None:
        files = files_of(settings)
        if files is None:
            return None
        outside = self._outside
        replicas = None
        if settings.quota_redis:
            # Loaded where it is wanted: it is not always installed.
            from togetherchat_server.tenants.redis_quotas import RedisQuotas  # noqa: PLC0415

            replicas = RedisQuotas(
                settings.quota_redis, patience_s=settings.quota_redis_s, clock=outside.clock
            )
            self._resources.push_async_callback(replicas.aclose)
            self._gauges["quota_redis_away"] = lambda: replicas.away
        return Gate(
            files,
            LocalTally() if tally is None else SharedTally.joined(tally),
            clock=outside.clock,
            wall_clock=outside.wall_clock,
            aliases=self._names.aliases,
            replicas=replicas,
        )

    def _open_log(self, settings: Settings) -> CallLog:
        writer = LineWriter(self._outside.log)
        self._gauges["log_lines_dropped"] = lambda: writer.dropped
        self._resources.callback(writer.close)
        self._resources.callback(attach(LogHandler(writer, settings.log)))
        return CallLog(writer, settings.log)

    def _show_certificate(self) -> None:
        """Say which certificate is served, and until when, at the start and on `/vars`."""
        certificates, wall_clock = self._configuration.certificates, self._outside.wall_clock
        if certificates is None:
            return
        facts, now_s = certificates.current().facts, wall_clock()
        valid = facts.not_before_s <= now_s < facts.not_after_s
        _log.info("TLS certificate: %s", facts)
        if not valid:
            _log.warning("callers will refuse the TLS certificate: it is valid at another time")
        self._gauges["tls_certificate_expires_s"] = lambda: round(
            certificates.current().facts.not_after_s - wall_clock()
        )

    async def _open_sandbox(self, settings: Settings) -> Upstream:
        sandbox = await self._resources.enter_async_context(simulator(settings))
        return Upstream(base_url=sandbox.base_url, key=None)

    def _open_front(self, settings: Settings, upstream: Upstream, log: CallLog) -> RpcFront:
        outside = self._outside
        provider = self._open_provider(settings, upstream)
        budget, breaker = RetryBudget(), Breaker()
        self._gauges |= {
            "retry_budget_left": lambda: budget.left(outside.clock()),
            "breaker_pairs_held": lambda: breaker.held(now_s=outside.clock()),
            "breaker_pairs_dropping": lambda: breaker.dropping(now_s=outside.clock()),
        }
        attempts = Attempts(
            provider,
            policy=RetryPolicy(retries_max=settings.retries, costly_retries_max=settings.costly_retries),
            budget=budget,
            breaker=breaker,
            surroundings=Surroundings(clock=outside.clock, random=outside.random),
        )
        names, gate, refusals = self._names, self._gate, Refusals(clock=outside.clock)
        permits = gate.permits if gate is not None else None
        directory = ModelDirectory(
            provider,
            self._catalog,
            aliases=names.all(),
            refusals=refusals,
            limits=DirectoryLimits(fresh_s=settings.models_fresh_s),
            clock=outside.clock,
            wall_clock=outside.wall_clock,
            permits=permits,
        )
        self._resources.push_async_callback(directory.aclose)
        desk = CallDesk(
            key_mode=settings.upstream_key,
            server_key=upstream.current_key,
            total_s=settings.total_s,
            clock=outside.clock,
            sinks=(
                log,
                UpstreamLimits(self._gauges, clock=outside.clock),
                self.meters.sink(models={*self._catalog.by_id, *names.all().values()}),
                *self._figure_sinks(),
                *((gate,) if gate else ()),
            ),
            gate=gate,
            spans=self._open_spans(settings, upstream),
        )
        router = Router(
            attempts,
            price=directory.price,
            clock=outside.clock,
            names=names,
            refusals=refusals,
            permits=permits,
        )
        chat = CheckedChat(
            TenantChat(router, gate, names) if gate is not None else router,
            RequestLimits(request_bytes_max=settings.request_bytes_max),
        )
        if settings.http != OFF:
            self._door = self._make_door(settings, desk, chat, directory)
        return RpcFront(
            boundary=Boundary(
                desk=desk,
                admission=self._admission,
                failures=self._failures,
                limits=BoundaryLimits(
                    request_s=settings.request_s,
                    write_stall_s=settings.write_stall_s,
                    queue_s=settings.queue_s,
                ),
                random=outside.random,
            ),
            servicer=ChatServicer(chat, directory),
            reflection=settings.reflection,
            connections=ConnectionLimits(age_s=settings.connection_age_s, farewell_s=settings.total_s),
            listening=Listening(
                share_port=self._share_port,
                certificates=self._configuration.certificates,
                health_address=None if settings.health == OFF else settings.health,
            ),
        )

    def _open_spans(self, settings: Settings, upstream: Upstream) -> Spans | None:
        if settings.traces == OFF:
            return None
        # Loaded where it is wanted: it is an extra, and takes a third of a second.
        from togetherchat_server.observe.trace import open_spans  # noqa: PLC0415

        outside = self._outside
        spans = open_spans(
            base_url=upstream.base_url,
            version=outside.version,
            clock=outside.clock,
            wall_clock=outside.wall_clock,
        )
        if spans is not None:
            self._gauges |= spans.gauges
            self._resources.push_async_callback(spans.aclose)
        return spans

    def _figure_sinks(self) -> tuple[Sink, ...]:
        return () if self._figures is None else (self._figures,)

    def _count(self) -> dict[str, object]:
        """What the console shows of this process."""
        assert self._figures is not None  # noqa: S101  asked by the console alone
        now = {"in_flight": self.in_flight, "waiting": self.waiting, "version": self._outside.version}
        return self._figures.snapshot() | now

    def _make_door(
        self, settings: Settings, desk: CallDesk, chat: Chat, listing: ModelListing
    ) -> "HttpFront":
        # Loaded where it is wanted: it takes a tenth of a second that most starts can do without.
        from togetherchat_server.fronts.http import door  # noqa: PLC0415

        return door.open_door(
            desk=desk,
            admission=self._admission,
            chat=chat,
            listing=listing,
            limits=door.BoundaryLimits(
                request_s=settings.request_s,
                write_stall_s=settings.write_stall_s,
                queue_s=settings.queue_s,
                request_bytes_max=settings.request_bytes_max,
            ),
            surroundings=door.Surroundings(
                random=self._outside.random,
                wall_clock=self._outside.wall_clock,
                failures=self._failures,
                version=self._outside.version,
                share_port=self._share_port,
                certificates=self._configuration.certificates,
                local_pages_only=is_loopback(settings.http) and not settings.allow_open_access,
                figures=None if self._figures is None else self._count,
            ),
        )

    async def _start_door(self, settings: Settings) -> str | None:
        if self._door is None:
            return None
        address = await self._door.start(settings.http)
        self._resources.push_async_callback(self._door.close)
        self._gauges["http_connections"] = lambda: self._door.connections if self._door else 0
        return address

    def _open_provider(self, settings: Settings, upstream: Upstream) -> TogetherProvider:
        transport = Transport.connect(
            base_url=upstream.base_url,
            limits=TransportLimits(
                connect_s=settings.connect_s,
                body_bytes_max=settings.body_bytes_max,
                stream_bytes_max=settings.stream_bytes_max,
                connections_max=settings.calls_max,
            ),
            user_agent=f"togetherchat/{self._outside.version}",
        )
        self._resources.push_async_callback(transport.aclose)
        self._gauges |= transport.gauges
        return TogetherProvider(
            transport,
            patience=Patience(
                answer_s=settings.answer_s,
                first_token_s=settings.first_token_s,
                silence_s=settings.silence_s,
                body_bytes_max=settings.body_bytes_max,
                event_bytes_max=settings.event_bytes_max,
                fold_from_tokens=settings.fold_from_tokens,
            ),
            clock=self._outside.clock,
            wall_clock=self._outside.wall_clock,
        )

    async def _open_admin(self, settings: Settings) -> str | None:
        if settings.admin == OFF:
            return None
        # Loaded where it is wanted: a worker, whose supervisor is scraped, does without.
        from togetherchat_server.observe.metrics.exposition import exposition  # noqa: PLC0415

        admin = Admin(
            pages(ready=self._ready, version=self._outside.version, gauges=self._gauges),
            lambda accept: exposition(self.meters.figures(), accept),
        )
        address = await admin.start(settings.admin)
        self._resources.push_async_callback(admin.close)
        return address

    def _ready(self) -> bool:
        return self._front is not None and self._front.health.serving


def simulator(settings: Settings, *, port: int = 0) -> Sandbox:
    """The simulator as it is set, not yet started."""
    pacing = SandboxSettings(tokens_per_second=settings.sandbox_tokens_per_second)
    return Sandbox(pacing, host="127.0.0.1", port=port)


def _admission(settings: Settings, outside: Outside, gate: Gate | None) -> Admission:
    limits = AdmissionLimits(
        calls_max=settings.calls_max,
        queue_max=settings.queue_max,
        queue_s=settings.queue_s,
        caller_calls_max=settings.caller_calls_max,
    )
    gauge = MemoryGauge(share_max=settings.memory_share_max, clock=outside.clock)
    return Admission(limits, clock=outside.clock, short_of_memory=gauge.short, quotas=gate)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
