"""Creates the parts that serve tenants: keys, policies and quotas."""

import secrets
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from togetherchat_server.config import Configuration, Settings, SettingsError
from togetherchat_server.config.proxy import Proxy
from togetherchat_server.runtime.accounting import SpendingLoader
from togetherchat_server.runtime.observability import Environment
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.collector import MetricsCollector
from togetherchat_server.telemetry.metrics.definitions import Key
from togetherchat_server.tenants.api_keys import ApiKeys
from togetherchat_server.tenants.authenticator import Authenticator, Mechanisms
from togetherchat_server.tenants.budget_watch import BudgetWatch
from togetherchat_server.tenants.files import TenantFiles, load_tenant_files
from togetherchat_server.tenants.jwt_settings import JwtSettings
from togetherchat_server.tenants.policy import TenantPolicy
from togetherchat_server.tenants.quota import LEASE_MARGIN_S, TenantQuota
from togetherchat_server.tenants.quota_report import QuotaReport
from togetherchat_server.tenants.quota_store import LocalQuotaStore
from togetherchat_server.tenants.shared_quota_store import SharedQuotaStore
from togetherchat_server.tenants.tenants_file import TenantsFile
from togetherchat_server.usage.journal import ReservationJournal

if TYPE_CHECKING:
    from togetherchat_server.tenants.jwt.authenticator import JwtAuthenticator
    from togetherchat_server.tenants.redis.quota_store import RedisQuotaStore
    from togetherchat_server.usage.ledger import UsageLedger

Gauges = MutableMapping[Key, Callable[[], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """The parts that serve tenants."""

    authenticator: Authenticator
    policy: TenantPolicy
    quota: TenantQuota
    quotas: QuotaReport
    tenants: TenantsFile
    loader: SpendingLoader | None
    """None without a usage ledger: then no tenant can have a budget."""


def open_tenancy(  # noqa: PLR0913  the parts of a tenancy, most by keyword
    configuration: Configuration,
    environment: Environment,
    *,
    aliases: Mapping[str, str],
    quota_store_fd: int | None,
    ledger: "UsageLedger | None",
    resources: AsyncExitStack,
    metrics: MetricsCollector,
) -> Tenancy | None:
    """Return the parts that serve tenants; None if callers do not authenticate. `resources` closes them.

    Raises:
        SettingsError: a file is invalid.
    """
    settings, gauges = configuration.settings, metrics.gauges
    files = load_tenant_files(settings)
    if files is None:
        return None
    tenants = TenantsFile(files.tenants, clock=environment.clock)
    if files.tenants is not None:
        gauges[names.FILE_STALE, "tenants-file"] = tenants.stale
    store = LocalQuotaStore() if quota_store_fd is None else SharedQuotaStore.open_or_local(quota_store_fd)
    loader = None
    journal = None
    if ledger is not None:
        journals = None if ledger.folder is None else ledger.folder / "journals"
        journal = _open_journal(journals, resources)
        loader = SpendingLoader(ledger, store, journals=journals, wall_clock=environment.wall_clock)
        resources.push_async_callback(loader.aclose)
    replicas = _replica_store(settings, environment, resources, gauges, loader)
    budgets = BudgetWatch(wall_clock=environment.wall_clock)
    quota = TenantQuota(
        tenants,
        store,
        clock=environment.clock,
        lease_s=settings.call_timeout_s,
        budgets=budgets,
        replicas=replicas,
        journal=journal,
    )
    metrics.gauges[names.QUOTA_RESERVATIONS,] = lambda: quota.reservations
    metrics.counters[names.QUOTA_RESERVATIONS_LEAKED,] = lambda: quota.leaked
    budgets.on_new_tenant = lambda tenant, period: metrics.gauges.setdefault(
        (names.TENANT_BUDGET_USED, tenant, period), lambda: budgets.used_ratio(tenant, period)
    )
    return Tenancy(
        authenticator=Authenticator(
            _mechanisms(configuration, files, tenants, environment, resources, gauges), tenants
        ),
        policy=TenantPolicy(tenants, aliases=aliases),
        quota=quota,
        quotas=QuotaReport(
            tenants,
            store,
            clock=environment.clock,
            wall_clock=environment.wall_clock,
            replicas=replicas,
        ),
        tenants=tenants,
        loader=loader,
    )


def _open_journal(folder: Path | None, resources: AsyncExitStack) -> ReservationJournal | None:
    if folder is None:
        return None
    try:
        journal = ReservationJournal(folder)
    except OSError as problem:
        raise SettingsError(f"--usage-spill-dir: cannot write to {folder}: {problem.strerror}") from None
    resources.callback(journal.close)
    return journal


def _mechanisms(
    configuration: Configuration,
    files: TenantFiles,
    tenants: TenantsFile,
    environment: Environment,
    resources: AsyncExitStack,
    gauges: Gauges,
) -> Mechanisms:
    keys = certificates = jwt = None
    if files.keys is not None:
        keys = ApiKeys(
            files.keys,
            clock=environment.clock,
            wall_clock=environment.wall_clock,
            max_age_s=configuration.settings.max_key_age_s,
        )
        gauges[names.FILE_STALE, "api-keys-file"] = keys.stale
        gauges[names.API_KEY_NOT_AFTER,] = keys.earliest_expiry_s
    if files.certificates:
        # Imported on use: cryptography is an optional dependency.
        from togetherchat_server.tenants.client_certificates import ClientCertificates  # noqa: PLC0415

        certificates = ClientCertificates(tenants)
    if files.jwt is not None:
        jwt = _jwt_authenticator(files.jwt, configuration.jwks_proxy, tenants, environment, resources, gauges)
    return Mechanisms(keys=keys, jwt=jwt, certificates=certificates)


def _jwt_authenticator(
    jwt: JwtSettings,
    proxy: Proxy | None,
    tenants: TenantsFile,
    environment: Environment,
    resources: AsyncExitStack,
    gauges: Gauges,
) -> "JwtAuthenticator":
    # Imported on use: PyJWT is an optional dependency.
    from togetherchat_server.tenants.jwt.authenticator import JwtAuthenticator  # noqa: PLC0415
    from togetherchat_server.tenants.jwt.fetch import JwksRequest  # noqa: PLC0415
    from togetherchat_server.tenants.jwt.key_source import KeyFile, KeyUrl  # noqa: PLC0415
    from togetherchat_server.tenants.jwt.token import TokenRules  # noqa: PLC0415

    if jwt.jwks_file is not None:
        source = KeyFile(jwt.jwks_file, clock=environment.clock)
        gauges[names.FILE_STALE, "jwt-jwks-file"] = source.stale
    else:
        assert jwt.jwks_url is not None  # noqa: S101  `load_tenant_files` checks that there is one of them
        request = JwksRequest(
            url=jwt.jwks_url, ca_file=jwt.jwks_ca_file, token_file=jwt.jwks_token_file, proxy=proxy
        )
        source = KeyUrl(request.fetch, clock=environment.clock)
        resources.push_async_callback(source.aclose)
        gauges[names.JWKS_UP,] = lambda: source.available
    return JwtAuthenticator(
        TokenRules(issuer=jwt.issuer, audience=jwt.audience, tenant_claim=jwt.tenant_claim),
        source,
        tenants,
        clock=environment.clock,
        wall_clock=environment.wall_clock,
    )


def _replica_store(
    settings: Settings,
    environment: Environment,
    resources: AsyncExitStack,
    gauges: Gauges,
    loader: SpendingLoader | None,
) -> "RedisQuotaStore | None":
    if settings.redis_url is None:
        return None
    # Imported on use: redis is an optional dependency.
    from togetherchat_server.tenants.redis.quota_store import RedisQuotaStore  # noqa: PLC0415

    replicas = RedisQuotaStore(
        settings.redis_url,
        timeout_s=settings.redis_timeout_s,
        clock=environment.clock,
        replica=secrets.token_hex(8),
        reservation_s=settings.call_timeout_s + LEASE_MARGIN_S,
        offline_ratio=settings.offline_budget_ratio,
        spent_before=None if loader is None else loader.spent_before,
    )
    resources.push_async_callback(replicas.aclose)
    gauges[names.REDIS_UP,] = lambda: not replicas.unavailable
    return replicas
