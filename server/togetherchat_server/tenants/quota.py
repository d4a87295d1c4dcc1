"""The quota of a tenant: its calls in flight, its requests, its tokens and its money.

The limits come from the tenants file. The numbers are in the quota store of the machine and, if
replicas share a Redis, in that too. A call enters once, before anything of it is read. Each of its
attempts reserves what it may use, and settles what it has used.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, final

from togetherchat_server.domain.call import Call
from togetherchat_server.domain.periods import Period, period_of
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.budget_watch import BudgetWatch
from togetherchat_server.tenants.quota_errors import quota_error
from togetherchat_server.tenants.quota_store import NOTHING, Claim, Grant, QuotaRejection, QuotaStore
from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.tenants_file import UNLIMITED, QuotaLimits, TenantLimits, TenantsFile

LEASE_MARGIN_S: Final = 60.0
"""How much longer than a call a reservation may last before it counts as leaked."""


class ReplicaQuotaStore(Protocol):
    """The quota store that replicas share. Each lease that `enter` returns is passed to `leave` once."""

    async def enter(self, tenant: str, limits: QuotaLimits) -> QuotaRejection | Lease | None: ...

    def leave(self, lease: Lease) -> None: ...

    async def reserve(
        self, reservation_id: str, tenant: str, claim: Claim, limits: QuotaLimits, local: Grant
    ) -> QuotaRejection | Grant:
        """Reserve in the store of all replicas. Each grant is settled once.

        `local` is what this machine has granted: the result while the shared store is unavailable.
        """
        ...

    def settle(
        self, reservation_id: str, tenant: str, claim: Claim, used: Claim, limits: QuotaLimits, period: Period
    ) -> None:
        """Settle, without waiting."""
        ...

    async def reset(self, tenant: str) -> None: ...


class Journal(Protocol):
    """Remembers, in case the process is killed, what calls have reserved of a budget."""

    def reserved(self, call: Call, attempt: int, *, tokens: int, nano_usd: int) -> None: ...

    def settled(self, call: Call, attempt: int, *, tokens: int, nano_usd: int) -> None: ...


@final
@dataclass(slots=True, eq=False, kw_only=True)
class Reservation:
    """What one attempt has reserved. `settle` replaces it by what was used; only the first time counts."""

    quota: "TenantQuota"
    call: Call
    attempt: int
    claim: Claim
    limits: TenantLimits
    period: Period
    expires_s: float
    is_open: bool = True

    @property
    def id(self) -> str:
        """Unique over all replicas."""
        return f"{self.call.record_id}.{self.attempt}"

    def settle(self, used: Claim) -> None:
        if self.is_open:
            self.is_open = False
            self.quota.settle(self, used)


@final
class TenantQuota:
    """Counts the calls of each tenant.

    Args:
        clock: the same for all processes that share the `store`.
        lease_s: how long an attempt may last. A reservation that is older was leaked: it is settled in full.
    """

    def __init__(  # noqa: PLR0913  the parts of a quota, all by keyword
        self,
        tenants: TenantsFile,
        store: QuotaStore,
        *,
        clock: Callable[[], float],
        lease_s: float,
        budgets: BudgetWatch,
        replicas: ReplicaQuotaStore | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._tenants = tenants
        self._store = store
        self._clock = clock
        self._lease_s = lease_s + LEASE_MARGIN_S
        self._budgets = budgets
        self._replicas = replicas
        self._journal = journal
        # Oldest first. Each is there until it is settled.
        self._open: dict[int, Reservation] = {}
        self.leaked = 0
        """Reservations that were settled because they were too old."""

    @property
    def reservations(self) -> int:
        """The number of attempts with a reservation."""
        return len(self._open)

    def limits_of(self, tenant: str) -> TenantLimits:
        return self._tenants.limits_of(tenant)

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

    async def reserve(self, call: Call, claim: Claim, limits: TenantLimits) -> Reservation:
        """Reserve what an attempt may use, before it is sent.

        Raises:
            ServiceError: CALLER_QUOTA, it does not fit; USAGE_UNAVAILABLE, what the tenant has spent is not
                known yet.
        """
        self._settle_leaked()
        if limits.has_budget and not self._store.loaded:
            raise ServiceError(
                Reason.USAGE_UNAVAILABLE,
                f"what tenant {call.tenant} has spent is not known: the usage database does not answer, or "
                "--usage-database is off",
            )
        now_s = self._clock()
        grant = self._store.reserve(call.tenant, claim, limits, now_s, period_of(call.received_us))
        if isinstance(grant, QuotaRejection):
            raise quota_error(call.tenant, grant, limits, claim)
        reservation = Reservation(
            quota=self,
            call=call,
            attempt=call.progress.attempts + 1,
            claim=claim,
            limits=limits,
            period=grant.period,
            expires_s=now_s + self._lease_s,
        )
        self._open[id(reservation)] = reservation
        if self._replicas is not None:
            grant = await self._reserve_in_replicas(reservation, grant, self._replicas)
        if limits.has_budget:
            call.progress.budget_remaining_usd = self._budgets.update(call.tenant, limits, grant)
        if self._journal is not None and limits.has_budget:
            self._journal.reserved(call, reservation.attempt, tokens=claim.tokens, nano_usd=claim.nano_usd)
        return reservation

    def spent(self, call: Call, nano_usd: int) -> None:
        """Count the cost of an attempt without a reservation: its tenant may have a budget later today."""
        limits, now_s = UNLIMITED, self._clock()
        grant = self._store.reserve(call.tenant, NOTHING, limits, now_s, period_of(call.received_us))
        if isinstance(grant, Grant):
            self._store.settle(call.tenant, NOTHING, Claim(nano_usd=nano_usd), limits, now_s, grant.period)

    def settle(self, reservation: Reservation, used: Claim) -> None:
        """Replace a reservation by what was used. Called by the reservation, once."""
        call, claim, limits = reservation.call, reservation.claim, reservation.limits
        self._close(reservation, used)
        if self._replicas is not None:
            self._replicas.settle(reservation.id, call.tenant, claim, used, limits, reservation.period)
        if self._journal is not None and limits.has_budget:
            self._journal.settled(call, reservation.attempt, tokens=used.tokens, nano_usd=used.nano_usd)

    async def _reserve_in_replicas(
        self, reservation: Reservation, local: Grant, replicas: ReplicaQuotaStore
    ) -> Grant:
        tenant, claim, limits = reservation.call.tenant, reservation.claim, reservation.limits
        try:
            grant = await replicas.reserve(reservation.id, tenant, claim, limits, local)
        except BaseException:
            # Cancelled while the command was on its way: the store settles what it may have reserved.
            reservation.is_open = False
            self._close(reservation, NOTHING)
            raise
        if isinstance(grant, QuotaRejection):
            reservation.is_open = False
            self._close(reservation, NOTHING)
            raise quota_error(tenant, grant, limits, claim)
        reservation.period = grant.period
        return grant

    def _close(self, reservation: Reservation, used: Claim) -> None:
        self._open.pop(id(reservation), None)
        self._store.settle(
            reservation.call.tenant,
            reservation.claim,
            used,
            reservation.limits,
            self._clock(),
            reservation.period,
        )

    def _settle_leaked(self) -> None:
        now_s = self._clock()
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.expires_s > now_s:
                return
            self.leaked += 1
            oldest.settle(oldest.claim)
