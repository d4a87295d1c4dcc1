"""Creates the parts that serve tenants: keys, policies and quotas."""

import secrets
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from togetherchat_server.config import Settings
from togetherchat_server.runtime.observability import Environment
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.definitions import Key
from togetherchat_server.tenants.authenticator import Authenticator
from togetherchat_server.tenants.files import load_tenant_files
from togetherchat_server.tenants.policy import TenantPolicy
from togetherchat_server.tenants.quota import ReplicaQuotaStore, TenantQuota
from togetherchat_server.tenants.quota_store import LocalQuotaStore
from togetherchat_server.tenants.shared_quota_store import SharedQuotaStore
from togetherchat_server.tenants.tenants_file import TenantsFile

Gauges = MutableMapping[Key, Callable[[], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """The parts that serve tenants."""

    authenticator: Authenticator
    policy: TenantPolicy
    quota: TenantQuota


def open_tenancy(
    settings: Settings,
    environment: Environment,
    *,
    aliases: Mapping[str, str],
    quota_store_fd: int | None,
    resources: AsyncExitStack,
    gauges: Gauges,
) -> Tenancy | None:
    """Return the parts that serve tenants; None without an API keys file. `resources` closes them.

    Raises:
        SettingsError: the API keys file or the tenants file is invalid.
    """
    files = load_tenant_files(settings)
    if files is None:
        return None
    tenants = TenantsFile(files.tenants, clock=environment.clock)
    return Tenancy(
        authenticator=Authenticator(files.keys, clock=environment.clock, wall_clock=environment.wall_clock),
        policy=TenantPolicy(tenants, aliases=aliases),
        quota=TenantQuota(
            tenants,
            LocalQuotaStore() if quota_store_fd is None else SharedQuotaStore.open_or_local(quota_store_fd),
            clock=environment.clock,
            replicas=_replica_store(settings, environment, resources, gauges),
        ),
    )


def _replica_store(
    settings: Settings, environment: Environment, resources: AsyncExitStack, gauges: Gauges
) -> ReplicaQuotaStore | None:
    if settings.redis_url is None:
        return None
    # Imported on use: redis is an optional dependency.
    from togetherchat_server.tenants.redis.quota_store import RedisQuotaStore  # noqa: PLC0415

    replicas = RedisQuotaStore(
        settings.redis_url,
        timeout_s=settings.redis_timeout_s,
        clock=environment.clock,
        replica=secrets.token_hex(8),
    )
    resources.push_async_callback(replicas.aclose)
    gauges[names.REDIS_UP,] = lambda: not replicas.unavailable
    return replicas
