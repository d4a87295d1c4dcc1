"""Every part of the service, made from the settings: the one place where a front meets a provider.

Owns who is given what. Nothing here listens, waits or decides anything about a call.
"""

import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from togetherchat_server.calls.admission import Admission, AdmissionLimits
from togetherchat_server.calls.auth_throttle import AuthThrottle
from togetherchat_server.calls.model_routing import RoutingChat
from togetherchat_server.calls.session import Sessions
from togetherchat_server.calls.tenant_policy import PolicyChat, QuotaModelListing
from togetherchat_server.calls.validation import RequestLimits
from togetherchat_server.calls.validation.validating_chat import ValidatingChat
from togetherchat_server.config import Configuration, ProviderConfig, is_loopback
from togetherchat_server.domain.ports import Chat, ModelListing
from togetherchat_server.frontends.grpc.handler import GrpcHandler, GrpcTimeouts
from togetherchat_server.frontends.grpc.methods import chat_methods
from togetherchat_server.frontends.grpc.server import ConnectionAge, GrpcServer, ListenerOptions
from togetherchat_server.frontends.http.handler import HttpLimits
from togetherchat_server.models.aliases import resolve_aliases
from togetherchat_server.models.catalog import load_catalog
from togetherchat_server.models.list_cache import ListCacheLimits, ModelListCache
from togetherchat_server.models.unavailable import UnavailableModels
from togetherchat_server.providers.together.provider import ProviderLimits, TogetherProvider
from togetherchat_server.runtime.memory import MemoryGauge
from togetherchat_server.runtime.observability import OFF, Environment, Observability
from togetherchat_server.telemetry.call_record import Sink
from togetherchat_server.tenants.files import load_tenant_files
from togetherchat_server.tenants.gate import Gate
from togetherchat_server.tenants.quota_store import LocalQuotaStore
from togetherchat_server.tenants.shared_quota_store import SharedQuotaStore
from togetherchat_server.upstream.adaptive_throttle import AdaptiveThrottle
from togetherchat_server.upstream.client import UpstreamLimits, UpstreamClient
from togetherchat_server.upstream.retry_loop import RetryEnvironment, RetryingChat
from togetherchat_server.upstream.retry_policy import RetryBudget, RetryPolicy

if TYPE_CHECKING:
    from togetherchat_server.frontends.http.server import HttpServer


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShare:
    """What this process shares with others: its addresses, and a descriptor of tenants' accounts."""

    port: bool = False
    tally: int | None = None


SINGLE_PROCESS: Final = WorkerShare()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontends:
    """Where callers come in, not yet listening."""

    rpc: GrpcServer
    http: "HttpServer | None"


@final
class Wiring:
    """The parts of one process. What they open is closed with `resources`.

    Raises:
        SettingsError: the aliases, or a file of tenants, cannot be used.
    """

    def __init__(
        self,
        configuration: Configuration,
        outside: Environment,
        resources: AsyncExitStack,
        observers: Observability,
        shared: WorkerShare,
    ) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._outside = outside
        self._resources = resources
        self._observers = observers
        self._shared = shared
        self._catalog = load_catalog(None)
        self._names = resolve_aliases(configuration, self._catalog)
        self._failures = AuthThrottle(per_minute=self._settings.failures_per_minute, clock=outside.clock)
        self._gate = self._make_gate()
        self.admission: Final = self._make_admission()
        observers.gauges["calls_in_flight"] = lambda: self.admission.in_flight
        observers.gauges["calls_waiting"] = lambda: self.admission.waiting

    def fronts(self, upstream: ProviderConfig, log: Sink) -> Frontends:
        """The fronts before everything that is behind them."""
        provider = self._make_provider(upstream)
        refusals = UnavailableModels(clock=self._outside.clock)
        directory = self._make_directory(provider, refusals)
        chat = self._make_chat(self._make_attempts(provider), directory, refusals)
        listing = directory if self._gate is None else QuotaModelListing(directory, self._gate)
        desk = self._make_desk(upstream, log)
        return Frontends(
            rpc=self._make_rpc(desk, chat, listing),
            http=None if self._settings.http == OFF else self._make_door(desk, chat, listing),
        )

    def _make_gate(self) -> Gate | None:
        settings, outside = self._settings, self._outside
        files = load_tenant_files(settings)
        if files is None:
            return None
        replicas = None
        if settings.quota_redis:
            # Loaded where it is wanted: it is not always installed.
            from togetherchat_server.tenants.redis.quotas import RedisQuotas  # noqa: PLC0415

            replicas = RedisQuotas(
                settings.quota_redis,
                patience_s=settings.quota_redis_s,
                clock=outside.clock,
                replica=secrets.token_hex(8),
            )
            self._resources.push_async_callback(replicas.aclose)
            self._observers.gauges["quota_redis_away"] = lambda: replicas.away
        tally = self._shared.tally
        return Gate(
            files,
            LocalQuotaStore() if tally is None else SharedQuotaStore.joined(tally),
            clock=outside.clock,
            wall_clock=outside.wall_clock,
            aliases=self._names.aliases,
            replicas=replicas,
        )

    def _make_admission(self) -> Admission:
        settings, clock = self._settings, self._outside.clock
        limits = AdmissionLimits(
            calls_max=settings.calls_max,
            queue_max=settings.queue_max,
            queue_s=settings.queue_s,
            caller_calls_max=settings.caller_calls_max,
        )
        memory = MemoryGauge(share_max=settings.memory_share_max, clock=clock)
        return Admission(limits, clock=clock, short_of_memory=memory.short, quotas=self._gate)

    def _make_provider(self, upstream: ProviderConfig) -> TogetherProvider:
        settings = self._settings
        transport = UpstreamClient.connect(
            base_url=upstream.base_url,
            limits=UpstreamLimits(
                connect_s=settings.connect_s,
                body_bytes_max=settings.body_bytes_max,
                stream_bytes_max=settings.stream_bytes_max,
                connections_max=settings.calls_max,
            ),
            user_agent=f"togetherchat/{self._outside.version}",
        )
        self._resources.push_async_callback(transport.aclose)
        self._observers.gauges |= transport.gauges
        return TogetherProvider(
            transport,
            patience=ProviderLimits(
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

    def _make_attempts(self, provider: TogetherProvider) -> RetryingChat:
        settings, outside = self._settings, self._outside
        budget, breaker = RetryBudget(), AdaptiveThrottle()
        self._observers.gauges |= {
            "retry_budget_left": lambda: budget.left(outside.clock()),
            "breaker_pairs_held": lambda: breaker.held(now_s=outside.clock()),
            "breaker_pairs_dropping": lambda: breaker.dropping(now_s=outside.clock()),
        }
        return RetryingChat(
            provider,
            policy=RetryPolicy(retries_max=settings.retries, costly_retries_max=settings.costly_retries),
            budget=budget,
            breaker=breaker,
            surroundings=RetryEnvironment(clock=outside.clock, random=outside.random),
        )

    def _make_directory(self, provider: TogetherProvider, refusals: UnavailableModels) -> ModelListCache:
        directory = ModelListCache(
            provider,
            self._catalog,
            aliases=self._names.all(),
            refusals=refusals,
            limits=ListCacheLimits(fresh_s=self._settings.models_fresh_s),
            clock=self._outside.clock,
            wall_clock=self._outside.wall_clock,
            permits=self._permits(),
        )
        self._resources.push_async_callback(directory.aclose)
        return directory

    def _make_chat(
        self, attempts: RetryingChat, directory: ModelListCache, refusals: UnavailableModels
    ) -> Chat:
        router = RoutingChat(
            attempts,
            price=directory.price,
            clock=self._outside.clock,
            names=self._names,
            refusals=refusals,
            permits=self._permits(),
        )
        return ValidatingChat(
            router if self._gate is None else PolicyChat(router, self._gate, self._names),
            RequestLimits(request_bytes_max=self._settings.request_bytes_max),
        )

    def _permits(self) -> Callable[[str, str], bool] | None:
        return None if self._gate is None else self._gate.permits

    def _make_desk(self, upstream: ProviderConfig, log: Sink) -> Sessions:
        models = {*self._catalog.by_id, *self._names.all().values()}
        booked = () if self._gate is None else (self._gate,)
        return Sessions(
            key_mode=self._settings.upstream_key,
            server_key=upstream.current_key,
            total_s=self._settings.total_s,
            clock=self._outside.clock,
            sinks=(*self._observers.sinks(log, models=models), *booked),
            gate=self._gate,
            spans=self._observers.open_spans(upstream.base_url),
        )

    def _make_rpc(self, desk: Sessions, chat: Chat, listing: ModelListing) -> GrpcServer:
        settings = self._settings
        return GrpcServer(
            boundary=GrpcHandler(
                desk=desk,
                admission=self.admission,
                failures=self._failures,
                limits=GrpcTimeouts(
                    request_s=settings.request_s,
                    write_stall_s=settings.write_stall_s,
                    queue_s=settings.queue_s,
                ),
                random=self._outside.random,
            ),
            methods=chat_methods(chat, listing),
            reflection=settings.reflection,
            connections=ConnectionAge(age_s=settings.connection_age_s, farewell_s=settings.total_s),
            listening=ListenerOptions(
                share_port=self._shared.port,
                certificates=self._configuration.certificates,
                health_address=None if settings.health == OFF else settings.health,
            ),
        )

    def _make_door(self, desk: Sessions, chat: Chat, listing: ModelListing) -> "HttpServer":
        # Loaded where it is wanted: it takes a tenth of a second that most starts can do without.
        from togetherchat_server.frontends.http import routes  # noqa: PLC0415

        settings = self._settings
        front = routes.create_http_server(
            desk=desk,
            admission=self.admission,
            chat=chat,
            listing=listing,
            limits=HttpLimits(
                request_s=settings.request_s,
                write_stall_s=settings.write_stall_s,
                queue_s=settings.queue_s,
                request_bytes_max=settings.request_bytes_max,
            ),
            surroundings=routes.HttpEnvironment(
                random=self._outside.random,
                wall_clock=self._outside.wall_clock,
                failures=self._failures,
                version=self._outside.version,
                share_port=self._shared.port,
                certificates=self._configuration.certificates,
                local_pages_only=is_loopback(settings.http) and not settings.allow_open_access,
                figures=self._observers.snapshot(),
            ),
        )
        self._observers.gauges["http_connections"] = lambda: front.connections
        return front
