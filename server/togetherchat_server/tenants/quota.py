"""The quota of a tenant: its calls in flight, its requests and its tokens, checked and counted.

The limits come from the tenants file. The numbers are in the quota store of the machine and, if
replicas share a Redis, in that too.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, final

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.tenants.quota_store import QuotaMetric, QuotaRejection, QuotaStore
from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.tenants_file import QuotaLimits, TenantsFile


class ReplicaQuotaStore(Protocol):
    """The quota store that replicas share. Each lease that `enter` returns is passed to `leave` once."""

    async def enter(self, tenant: str, limits: QuotaLimits) -> QuotaRejection | Lease | None: ...

    def leave(self, lease: Lease) -> None: ...

    def spend(self, tenant: str, tokens: int, limits: QuotaLimits) -> None: ...


@final
class TenantQuota:
    """Counts the calls of each tenant. `clock` is the same for all processes that share the `store`."""

    def __init__(
        self,
        tenants: TenantsFile,
        store: QuotaStore,
        *,
        clock: Callable[[], float],
        replicas: ReplicaQuotaStore | None = None,
    ) -> None:
        self._tenants = tenants
        self._store = store
        self._clock = clock
        self._replicas = replicas

    def enter(self, tenant: str) -> None:
        """Count a call that begins, before anything of it is read.

        Raises:
            ServiceError: CALLER_QUOTA.
        """
        limits = self._tenants.limits_of(tenant)
        rejection = self._store.enter(tenant, limits, self._clock())
        if rejection is not None:
            raise quota_error(tenant, rejection, limits)

    def leave(self, tenant: str) -> None:
        """Count the end of a call that entered."""
        self._store.leave(tenant)

    @asynccontextmanager
    async def in_replicas(self, tenant: str) -> AsyncGenerator[None]:
        """Count a call in the store that replicas share, if there is one, until the context ends.

        Raises:
            ServiceError: CALLER_QUOTA.
        """
        if self._replicas is None:
            yield
            return
        limits = self._tenants.limits_of(tenant)
        entered = await self._replicas.enter(tenant, limits)
        if isinstance(entered, QuotaRejection):
            raise quota_error(tenant, entered, limits)
        try:
            yield
        finally:
            if entered is not None:
                self._replicas.leave(entered)

    def count_tokens(self, record: CallRecord) -> None:
        """Count the tokens of a finished call: those known to be used, if it failed. A call-record sink."""
        tokens = (record.prompt_tokens or 0) + (record.completion_tokens or 0)
        if not (record.tenant and tokens):
            return
        limits = self._tenants.limits_of(record.tenant)
        if limits.tokens_per_minute:
            self._store.spend(record.tenant, tokens, limits, self._clock())
            if self._replicas is not None:
                self._replicas.spend(record.tenant, tokens, limits)


def quota_error(tenant: str, rejection: QuotaRejection, limits: QuotaLimits) -> ServiceError:
    """Return the error that names the exhausted limit."""
    number = {
        QuotaMetric.CALLS: limits.max_concurrent_calls,
        QuotaMetric.REQUESTS: limits.requests_per_minute,
        QuotaMetric.TOKENS: limits.tokens_per_minute,
    }[rejection.metric]
    return ServiceError(
        Reason.CALLER_QUOTA,
        f"tenant {tenant} has used up its {number} {rejection.metric}",
        retry_after_s=rejection.retry_after_s,
    )
