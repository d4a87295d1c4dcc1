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
from togetherchat_server.runtime.observability import Environment, Observability
from togetherchat_server.telemetry.call_record import Sink
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.tenants.files import load_tenant_files
from togetherchat_server.tenants.gate import Gate
from togetherchat_server.tenants.quota_store import LocalQuotaStore
from togetherchat_server.tenants.shared_quota_store import SharedQuotaStore
from togetherchat_server.upstream.adaptive_throttle import AdaptiveThrottle
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits
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

    grpc: GrpcServer
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
        environment: Environment,
        resources: AsyncExitStack,
        observability: Observability,
        shared: WorkerShare,
    ) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._environment = environment
        self._resources = resources
        self._observability = observability
        self._shared = shared
        self._catalog = load_catalog(None)
        self._model_names = resolve_aliases(configuration, self._catalog)
        self._auth_throttle = AuthThrottle(
            per_minute=self._settings.auth_failures_per_minute, clock=environment.clock
        )
        self._gate = self._make_gate()
        self.admission: Final = self._make_admission()
        observability.gauges[names.CALLS_IN_FLIGHT,] = lambda: self.admission.in_flight
        observability.gauges[names.CALLS_QUEUED,] = lambda: self.admission.waiting

    def frontends(self, upstream: ProviderConfig, log: Sink) -> Frontends:
        """The fronts before everything that is behind them."""
        provider = self._make_provider(upstream)
        unavailable = UnavailableModels(clock=self._environment.clock)
        list_cache = self._make_list_cache(provider, unavailable)
        chat = self._make_chat(self._make_retrying(provider), list_cache, unavailable)
        listing = list_cache if self._gate is None else QuotaModelListing(list_cache, self._gate)
        sessions = self._make_sessions(upstream, log)
        return Frontends(
            grpc=self._make_grpc(sessions, chat, listing),
            http=None if self._settings.http_listen is None else self._make_http(sessions, chat, listing),
        )

    def _make_gate(self) -> Gate | None:
        settings, environment = self._settings, self._environment
        files = load_tenant_files(settings)
        if files is None:
            return None
        replicas = None
        if settings.redis_url:
            # Loaded where it is wanted: it is not always installed.
            from togetherchat_server.tenants.redis.quotas import RedisQuotas  # noqa: PLC0415

            replicas = RedisQuotas(
                settings.redis_url,
                patience_s=settings.redis_timeout_s,
                clock=environment.clock,
                replica=secrets.token_hex(8),
            )
            self._resources.push_async_callback(replicas.aclose)
            self._observability.gauges[names.REDIS_UP,] = lambda: not replicas.away
        tally = self._shared.tally
        return Gate(
            files,
            LocalQuotaStore() if tally is None else SharedQuotaStore.joined(tally),
            clock=environment.clock,
            wall_clock=environment.wall_clock,
            aliases=self._model_names.aliases,
            replicas=replicas,
        )

    def _make_admission(self) -> Admission:
        settings, clock = self._settings, self._environment.clock
        limits = AdmissionLimits(
            max_concurrent_calls=settings.max_concurrent_calls,
            max_queued_calls=settings.max_queued_calls,
            queue_timeout_s=settings.queue_timeout_s,
            max_concurrent_calls_per_caller=settings.max_concurrent_calls_per_caller,
        )
        memory = MemoryGauge(share_max=settings.memory_shed_ratio, clock=clock)
        return Admission(limits, clock=clock, short_of_memory=memory.short, quotas=self._gate)

    def _make_provider(self, upstream: ProviderConfig) -> TogetherProvider:
        settings = self._settings
        client = UpstreamClient.connect(
            base_url=upstream.base_url,
            limits=UpstreamLimits(
                connect_timeout_s=settings.connect_timeout_s,
                max_response_bytes=settings.max_response_bytes,
                max_stream_bytes=settings.max_stream_bytes,
                connections_max=settings.max_concurrent_calls,
            ),
            user_agent=f"togetherchat/{self._environment.version}",
        )
        self._resources.push_async_callback(client.aclose)
        self._observability.gauges.update(client.gauges)
        return TogetherProvider(
            client,
            limits=ProviderLimits(
                response_timeout_s=settings.response_timeout_s,
                first_token_timeout_s=settings.first_token_timeout_s,
                stream_idle_timeout_s=settings.stream_idle_timeout_s,
                max_event_bytes=settings.max_event_bytes,
                stream_upstream_min_tokens=settings.stream_upstream_min_tokens,
            ),
            clock=self._environment.clock,
            wall_clock=self._environment.wall_clock,
        )

    def _make_retrying(self, provider: TogetherProvider) -> RetryingChat:
        settings, environment = self._settings, self._environment
        budget, throttle = RetryBudget(), AdaptiveThrottle()
        gauges, clock = self._observability.gauges, environment.clock
        gauges[names.RETRY_BUDGET_LEFT,] = lambda: budget.left(clock())
        gauges[names.ADAPTIVE_THROTTLES, "backoff"] = lambda: throttle.held(now_s=clock())
        gauges[names.ADAPTIVE_THROTTLES, "rejecting"] = lambda: throttle.dropping(now_s=clock())
        return RetryingChat(
            provider,
            policy=RetryPolicy(
                retries_max=settings.max_retries, billable_retries_max=settings.billable_retries
            ),
            budget=budget,
            throttle=throttle,
            environment=RetryEnvironment(clock=environment.clock, random=environment.random),
        )

    def _make_list_cache(self, provider: TogetherProvider, unavailable: UnavailableModels) -> ModelListCache:
        list_cache = ModelListCache(
            provider,
            self._catalog,
            aliases=self._model_names.all(),
            unavailable=unavailable,
            limits=ListCacheLimits(fresh_s=self._settings.model_list_ttl_s),
            clock=self._environment.clock,
            wall_clock=self._environment.wall_clock,
            permits=self._permits(),
        )
        self._resources.push_async_callback(list_cache.aclose)
        return list_cache

    def _make_chat(
        self, retrying: RetryingChat, list_cache: ModelListCache, unavailable: UnavailableModels
    ) -> Chat:
        routing = RoutingChat(
            retrying,
            price=list_cache.price,
            clock=self._environment.clock,
            names=self._model_names,
            unavailable=unavailable,
            permits=self._permits(),
        )
        return ValidatingChat(
            routing if self._gate is None else PolicyChat(routing, self._gate, self._model_names),
            RequestLimits(max_request_bytes=self._settings.max_request_bytes),
        )

    def _permits(self) -> Callable[[str, str], bool] | None:
        return None if self._gate is None else self._gate.permits

    def _make_sessions(self, upstream: ProviderConfig, log: Sink) -> Sessions:
        models = {*self._catalog.by_id, *self._model_names.all().values()}
        booked = () if self._gate is None else (self._gate,)
        return Sessions(
            key_mode=self._settings.upstream_credentials,
            server_key=upstream.current_key,
            call_timeout_s=self._settings.call_timeout_s,
            clock=self._environment.clock,
            sinks=(*self._observability.sinks(log, models=models), *booked),
            gate=self._gate,
            spans=self._observability.open_spans(upstream.base_url),
        )

    def _make_grpc(self, sessions: Sessions, chat: Chat, listing: ModelListing) -> GrpcServer:
        settings = self._settings
        return GrpcServer(
            handler=GrpcHandler(
                sessions=sessions,
                admission=self.admission,
                auth_throttle=self._auth_throttle,
                limits=GrpcTimeouts(
                    request_read_timeout_s=settings.request_read_timeout_s,
                    write_timeout_s=settings.write_timeout_s,
                    queue_timeout_s=settings.queue_timeout_s,
                ),
                random=self._environment.random,
            ),
            methods=chat_methods(chat, listing),
            reflection=settings.reflection,
            connections=ConnectionAge(
                age_s=settings.max_connection_age_s, farewell_s=settings.call_timeout_s
            ),
            listening=ListenerOptions(
                share_port=self._shared.port,
                certificates=self._configuration.certificates,
                health_address=settings.health_listen,
            ),
        )

    def _make_http(self, sessions: Sessions, chat: Chat, listing: ModelListing) -> "HttpServer":
        # Loaded where it is wanted: it takes a tenth of a second that most starts can do without.
        from togetherchat_server.frontends.http import routes  # noqa: PLC0415

        settings = self._settings
        front = routes.create_http_server(
            sessions=sessions,
            admission=self.admission,
            chat=chat,
            listing=listing,
            limits=HttpLimits(
                request_read_timeout_s=settings.request_read_timeout_s,
                write_timeout_s=settings.write_timeout_s,
                queue_timeout_s=settings.queue_timeout_s,
                max_request_bytes=settings.max_request_bytes,
            ),
            environment=routes.HttpEnvironment(
                random=self._environment.random,
                wall_clock=self._environment.wall_clock,
                auth_throttle=self._auth_throttle,
                version=self._environment.version,
                share_port=self._shared.port,
                certificates=self._configuration.certificates,
                local_pages_only=is_loopback(settings.http_listen or "")
                and not settings.allow_unauthenticated,
                console_stats=self._observability.console_stats(),
            ),
        )
        self._observability.gauges[names.HTTP_CONNECTIONS,] = lambda: front.connections
        return front
