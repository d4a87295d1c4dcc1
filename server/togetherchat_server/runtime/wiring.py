"""Composition root: creates every part of the service from the settings and connects them.

The only module that knows both the frontends and the provider. Nothing here listens, waits or
decides anything about a call.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from togetherchat_server.calls.admission import Admission, AdmissionLimits
from togetherchat_server.calls.auth_throttle import AuthThrottle
from togetherchat_server.calls.credentials import CredentialCheck
from togetherchat_server.calls.metering import MeteringChat, ModelFacts
from togetherchat_server.calls.model_routing import RoutingChat
from togetherchat_server.calls.session_parts import SessionParts
from togetherchat_server.calls.sessions import Sessions
from togetherchat_server.calls.tenant_policy import RequestPolicy
from togetherchat_server.calls.validation import RequestLimits
from togetherchat_server.config import Configuration, ProviderConfig, is_loopback
from togetherchat_server.config.reloading_file import ReloadingFile
from togetherchat_server.domain.addresses import TrustedProxies
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.ports import Chat
from togetherchat_server.frontends.grpc.handler import GrpcHandler, GrpcTimeouts
from togetherchat_server.frontends.grpc.methods import METHODS
from togetherchat_server.frontends.grpc.server import GrpcConnectionLimits, GrpcServer, ListenerOptions
from togetherchat_server.frontends.http.handler import HttpLimits
from togetherchat_server.models.aliases import resolve_aliases
from togetherchat_server.models.catalog import configured_catalog, load_catalog
from togetherchat_server.models.list_cache import ListCacheLimits, ModelListCache
from togetherchat_server.models.price_list import PriceList
from togetherchat_server.models.unavailable import UnavailableModels
from togetherchat_server.providers.together.limits import ProviderLimits
from togetherchat_server.providers.together.options import ProviderOptions
from togetherchat_server.providers.together.provider import TogetherProvider
from togetherchat_server.runtime.file_limit import connections_max
from togetherchat_server.runtime.memory import MemoryGauge
from togetherchat_server.runtime.observability import Environment, Observability
from togetherchat_server.runtime.tenancy import open_tenancy
from togetherchat_server.runtime.usage import open_usage
from togetherchat_server.runtime.worker_share import WorkerShare
from togetherchat_server.supervisor.cpus import cpu_capacity, usable_cpus
from togetherchat_server.telemetry.call_record import Sink
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.tenants.model_prices import OperatorPrices
from togetherchat_server.upstream.adaptive_throttle import AdaptiveThrottle
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits
from togetherchat_server.upstream.read_governor import CpuMeter, ReadGovernor
from togetherchat_server.upstream.retry_loop import RetryEnvironment, RetryingChat
from togetherchat_server.upstream.retry_policy import RetryBudget, RetryPolicy

if TYPE_CHECKING:
    from togetherchat_server.frontends.http.server import HttpServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontends:
    """The servers of the frontends, not yet listening, and the sessions of their calls."""

    sessions: Sessions
    grpc: GrpcServer
    http: "HttpServer | None"


@final
class Wiring:
    """Creates the parts of one process. `resources` closes what they open.

    Raises:
        SettingsError: the aliases, the API keys file or the tenants file is invalid.
    """

    def __init__(
        self,
        configuration: Configuration,
        environment: Environment,
        resources: AsyncExitStack,
        observability: Observability,
        share: WorkerShare,
    ) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._environment = environment
        self._resources = resources
        self._observability = observability
        self._share = share
        self._catalog = configured_catalog(configuration)
        self._model_names = resolve_aliases(configuration, self._catalog)
        self._ledger = open_usage(
            self._settings,
            environment,
            in_flight=lambda: self.admission.in_flight,
            resources=resources,
            metrics=observability.metrics,
        )
        self._tenancy = open_tenancy(
            configuration,
            environment,
            aliases=self._model_names.aliases,
            quota_store_fd=share.quota_store_fd,
            ledger=self._ledger,
            resources=resources,
            metrics=observability.metrics,
        )
        self.governor: Final = self._make_governor()
        self.admission: Final = self._make_admission()
        observability.gauges[names.CALLS_IN_FLIGHT,] = lambda: self.admission.in_flight
        observability.gauges[names.CALLS_QUEUED,] = lambda: self.admission.queued

    async def start_accounting(self) -> None:
        """Start the usage ledger, and load what tenants have spent."""
        if self._ledger is not None:
            self._ledger.start()
        if self._tenancy is not None and self._tenancy.loader is not None:
            await self._tenancy.loader.start(wait=self._tenancy.tenants.current().has_budgets)

    def frontends(self, config: ProviderConfig, log: Sink) -> Frontends:
        """Create the frontends, and everything that they call."""
        provider = self._make_provider(config)
        unavailable = UnavailableModels(clock=self._environment.clock)
        list_cache = self._make_list_cache(provider, unavailable)
        prices = self._make_price_list(list_cache)
        metered = self._tenancy is not None or self._ledger is not None
        retrying = self._make_retrying(self._make_metering(provider, prices) if metered else provider)
        routing = self._make_routing(retrying, prices, unavailable)
        sessions = self._make_sessions(config, log, routing, list_cache)
        return Frontends(
            sessions=sessions,
            grpc=self._make_grpc(sessions),
            http=None if self._settings.http_listen is None else self._make_http(sessions),
        )

    def _make_governor(self) -> ReadGovernor:
        settings = self._settings
        cpus = cpu_capacity()
        if self._share.share_port:
            cpus /= usable_cpus() if settings.workers == "auto" else settings.workers
        governor = ReadGovernor(
            max_interval_s=settings.max_merge_interval_s,
            cpu=CpuMeter(capacity_cpus=cpus),
            clock=self._environment.clock,
        )
        self._resources.callback(governor.stop)
        self._observability.gauges[names.MERGE_INTERVAL,] = lambda: governor.interval_s
        self._observability.metrics.counters[names.DEFERRED_READS,] = lambda: governor.deferrals
        return governor

    def _make_admission(self) -> Admission:
        settings, clock = self._settings, self._environment.clock
        limits = AdmissionLimits(
            max_concurrent_calls=settings.max_concurrent_calls,
            max_queued_calls=settings.max_queued_calls,
            queue_timeout_s=settings.queue_timeout_s,
            max_concurrent_calls_per_caller=settings.max_concurrent_calls_per_caller,
        )
        quotas = None if self._tenancy is None else self._tenancy.quota
        return Admission(
            limits,
            clock=clock,
            short_of_memory=MemoryGauge(shed_ratio=settings.memory_shed_ratio, clock=clock).under_pressure,
            saturated=lambda: self.governor.saturated,
            quotas=quotas,
        )

    def _make_provider(self, config: ProviderConfig) -> TogetherProvider:
        settings = self._settings
        if isinstance(config.key, ReloadingFile):
            self._observability.gauges[names.FILE_STALE, "TOGETHER_API_KEY_FILE"] = config.key.stale
        client = UpstreamClient.connect(
            config,
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
        self._observability.metrics.counters.update(client.counters)
        return TogetherProvider(
            client,
            limits=ProviderLimits(
                response_timeout_s=settings.response_timeout_s,
                first_token_timeout_s=settings.first_token_timeout_s,
                stream_idle_timeout_s=settings.stream_idle_timeout_s,
                max_event_bytes=settings.max_event_bytes,
                stream_upstream_min_tokens=settings.stream_upstream_min_tokens,
            ),
            governor=self.governor,
            clock=self._environment.clock,
            wall_clock=self._environment.wall_clock,
            options=ProviderOptions(
                forward_user=settings.forward_user,
                adapt_reasoning_effort=settings.adapt_reasoning_effort,
                prompt_cache_affinity=settings.prompt_cache_affinity == "on"
                or (settings.prompt_cache_affinity == "auto" and self._configuration.serves_together),
                serverless_list=self._configuration.serves_together,
                catalog_entry=self._catalog.by_id.get,
            ),
        )

    def _make_price_list(self, list_cache: ModelListCache) -> PriceList:
        tenancy = self._tenancy
        return PriceList(
            dict if tenancy is None else OperatorPrices(tenancy.tenants).current,
            list_cache.price,
            lambda: load_catalog(None),
        )

    def _make_metering(self, provider: TogetherProvider, prices: PriceList) -> MeteringChat:
        return MeteringChat(
            provider,
            facts=ModelFacts(price=prices.accounted, entry=load_catalog(None).by_id.get),
            quota=None if self._tenancy is None else self._tenancy.quota,
            output_reserve_tokens=self._settings.output_reserve_tokens,
        )

    def _make_retrying(self, provider: Chat) -> RetryingChat:
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

    def _make_routing(
        self, retrying: RetryingChat, prices: PriceList, unavailable: UnavailableModels
    ) -> RoutingChat:
        return RoutingChat(
            retrying,
            price=prices.shown,
            clock=self._environment.clock,
            names=self._model_names,
            unavailable=unavailable,
            permits=self._permits(),
        )

    def _permits(self) -> Callable[[Call, str], bool] | None:
        return None if self._tenancy is None else self._tenancy.policy.permits

    def _make_sessions(
        self,
        config: ProviderConfig,
        log: Sink,
        routing: RoutingChat,
        list_cache: ModelListCache,
    ) -> Sessions:
        settings, tenancy, clock = self._settings, self._tenancy, self._environment.clock
        ledger = self._ledger
        models = {*self._catalog.by_id, *self._model_names.all().values()}
        usage_sinks = () if ledger is None else (ledger.record,)
        return Sessions(
            SessionParts(
                credentials=CredentialCheck(
                    key_mode=settings.upstream_credentials,
                    server_key=config.current_key,
                    authenticator=None if tenancy is None else tenancy.authenticator,
                ),
                admission=self.admission,
                auth_throttle=AuthThrottle(per_minute=settings.auth_failures_per_minute, clock=clock),
                request_limits=RequestLimits(max_request_bytes=settings.max_request_bytes),
                policy=None if tenancy is None else RequestPolicy(tenancy.policy, self._model_names),
                quota=None if tenancy is None else tenancy.quota,
                chat=routing,
                models=list_cache,
                trusted_proxies=TrustedProxies(settings.trusted_proxies),
                call_timeout_s=settings.call_timeout_s,
                clock=clock,
                wall_clock=self._environment.wall_clock,
                spans=self._observability.open_spans(config.base_url),
                sinks=(*self._observability.sinks(log, models=models), *usage_sinks),
                usage=None if ledger is None else ledger.reader,
                quotas=None if tenancy is None else tenancy.quotas,
            )
        )

    def _make_grpc(self, sessions: Sessions) -> GrpcServer:
        settings = self._settings
        handler = GrpcHandler(
            METHODS,
            sessions=sessions,
            timeouts=GrpcTimeouts(
                request_read_timeout_s=settings.request_read_timeout_s,
                write_timeout_s=settings.write_timeout_s,
            ),
            random=self._environment.random,
        )
        server = GrpcServer(
            handler=handler,
            reflection=settings.reflection,
            connections=GrpcConnectionLimits(
                age_s=settings.max_connection_age_s,
                grace_s=settings.call_timeout_s,
                idle_s=settings.max_connection_idle_s,
                connections_max=connections_max(settings.max_connections),
            ),
            listening=ListenerOptions(
                share_port=self._share.share_port,
                certificates=self._configuration.certificates,
                request_compression=settings.grpc_request_compression,
                health_address=settings.health_listen,
                socket_mode=settings.unix_socket_mode,
            ),
            clock=self._environment.clock,
        )
        counters = self._observability.metrics.counters
        counters[names.GRPC_CALLS_STARTED,] = server.started_calls.count
        counters[names.GRPC_CALLS_ACCEPTED,] = lambda: handler.accepted
        return server

    def _make_http(self, sessions: Sessions) -> "HttpServer":
        # Imported on use: loading takes 0.1 s, and most starts have no HTTP listener.
        from togetherchat_server.frontends.http import routes  # noqa: PLC0415

        settings = self._settings
        server = routes.create_http_server(
            sessions=sessions,
            limits=HttpLimits(
                request_read_timeout_s=settings.request_read_timeout_s,
                write_timeout_s=settings.write_timeout_s,
                heartbeat_s=settings.http_heartbeat_s,
                max_request_bytes=settings.max_request_bytes,
                max_unread_bytes=settings.max_unread_bytes,
            ),
            environment=routes.HttpEnvironment(
                random=self._environment.random,
                wall_clock=self._environment.wall_clock,
                version=self._environment.version,
                share_port=self._share.share_port,
                certificates=self._configuration.certificates,
                local_pages_only=settings.http_listen is not None
                and is_loopback(settings.http_listen)
                and not settings.allow_unauthenticated,
                allowed_origins=settings.http_allowed_origins,
                trusted_proxies=TrustedProxies(settings.trusted_proxies),
                connections_max=connections_max(settings.max_connections),
                idle_timeout_s=settings.http_idle_timeout_s,
                console_stats=self._observability.console_stats(),
            ),
        )
        self._observability.gauges[names.HTTP_CONNECTIONS,] = lambda: server.connections
        return server
