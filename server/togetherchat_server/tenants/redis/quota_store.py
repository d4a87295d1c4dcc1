"""The usage of tenants over all replicas, in Redis: requests, tokens, money and calls in flight.

A call queries Redis once, and once more for each attempt of a tenant with a limit of tokens or money.
If Redis does not answer, the call is admitted by the count of its machine alone. A call in flight is a
lease, which its replica renews while the call lasts. So the calls of a replica that dies are released
when their leases expire, and a Redis that was restarted without its data receives the calls that are in
flight.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast, final

from redis.asyncio import Redis

from togetherchat_server.domain.periods import Period
from togetherchat_server.tenants.quota_store import (
    Claim,
    Grant,
    QuotaMetric,
    QuotaRejection,
    QuotaUsage,
    longer_wait,
)
from togetherchat_server.tenants.redis.answers import usage_of
from togetherchat_server.tenants.redis.connection import RedisConnection
from togetherchat_server.tenants.redis.lease_renewer import LeaseRenewer
from togetherchat_server.tenants.redis.leases import Lease, LeaseIds, LeaseRegistry
from togetherchat_server.tenants.redis.lua_scripts import ENTER, HOLD, redis_key
from togetherchat_server.tenants.redis.reservations import (
    WAIT_MAX_S,
    RedisReservations,
    SpentBefore,
)
from togetherchat_server.tenants.tenants_file import QuotaLimits

LEASE_S: Final = 15.0
"""How long a call of a replica that died still counts."""
RESERVATION_S: Final = 660.0
OFFLINE_RATIO: Final = 0.05
CLOSE_TIMEOUT_S: Final = 1.0


@final
class RedisQuotaStore:
    """The shared store, as one replica uses it.

    Args:
        timeout_s: the longest that a call waits for Redis.
        replica: the unique name of this process.
        lease_s: how long a call of a replica that died still counts.
        reservation_s: how long an attempt of such a replica is reserved, before it counts in full.
        offline_ratio: the part of a budget that this replica may commit while Redis is unavailable.
        spent_before: returns what a tenant spent before Redis knew it; None if no tenant has a budget.

    Raises:
        ValueError: the address is not one of Redis.
    """

    def __init__(  # noqa: PLR0913  the parts of a store, all by keyword
        self,
        url: str,
        *,
        timeout_s: float,
        clock: Callable[[], float],
        replica: str,
        lease_s: float = LEASE_S,
        reservation_s: float = RESERVATION_S,
        offline_ratio: float = OFFLINE_RATIO,
        spent_before: SpentBefore | None = None,
    ) -> None:
        self._leases = LeaseRegistry(replica)
        self._lease_s = lease_s
        self._renewer = LeaseRenewer(
            self._leases, lease_s=lease_s, renew=self._renew, delete=self._delete, clock=clock
        )
        self._connection = RedisConnection(url, timeout_s=timeout_s, clock=clock, on_return=self._returned)
        self._redis: Redis = self._connection.redis
        self._enter = self._redis.register_script(ENTER)
        self._reservations = RedisReservations(
            self._connection,
            lease_s=reservation_s,
            offline_ratio=offline_ratio,
            spent_before=spent_before,
        )
        self._entering: set[asyncio.Task[QuotaRejection | None]] = set()

    @property
    def unavailable(self) -> bool:
        """Whether Redis does not answer."""
        return self._connection.unavailable

    async def enter(self, tenant: str, limits: QuotaLimits) -> QuotaRejection | Lease | None:
        """Count a request and a call in flight, unless a limit is exhausted.

        Returns the rejection, or the lease to pass to `leave` when the call has ended. Without a limit
        on calls in flight there is no lease.
        """
        if not (limits.requests_per_minute or limits.tokens_per_minute or limits.max_concurrent_calls):
            return None
        lease = self._leases.new(tenant)
        # In a task of its own: if the call is cancelled meanwhile, only the result of the command shows
        # whether Redis holds the lease.
        entering = asyncio.create_task(self._run_enter(lease, limits))
        self._entering.add(entering)
        entering.add_done_callback(self._entering.discard)
        try:
            await asyncio.wait({entering})
        except asyncio.CancelledError:
            if limits.max_concurrent_calls:
                entering.add_done_callback(lambda _: self._renewer.release(lease))
            raise
        rejection = entering.result()
        if rejection is not None or not limits.max_concurrent_calls:
            return rejection
        # Also if Redis is unavailable: it receives this lease when it is available again.
        self._renewer.hold(lease)
        return lease

    def leave(self, lease: Lease) -> None:
        """Release a lease, without waiting for Redis."""
        self._renewer.release(lease)

    async def reserve(
        self, reservation_id: str, tenant: str, claim: Claim, limits: QuotaLimits, local: Grant
    ) -> QuotaRejection | Grant:
        """Reserve what an attempt may use, unless it does not fit."""
        return await self._reservations.reserve(reservation_id, tenant, claim, limits, local)

    def settle(
        self, reservation_id: str, tenant: str, claim: Claim, used: Claim, limits: QuotaLimits, period: Period
    ) -> None:
        """Settle a reservation, without waiting for Redis."""
        self._reservations.settle(reservation_id, tenant, claim, used, limits, period)

    async def usage(self, tenant: str, period: Period, now_s: float) -> QuotaUsage | None:
        """Return a tenant's usage over all replicas, with moments of the clock that shows `now_s`.

        None if Redis is unavailable. What is reserved of the tokens is not known.
        """

        async def read() -> QuotaUsage:
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.execute_command("TIME")  # pyright: ignore[reportUnknownMemberType]  untyped
            for name in ("requests", "tokens"):
                pipeline.get(redis_key(tenant, name))
            pipeline.zcard(redis_key(tenant, "calls"))
            pipeline.hgetall(redis_key(tenant, "spending"))
            return usage_of(await pipeline.execute(), period, now_s)

        read_usage = await self._connection.execute(read)
        return read_usage if isinstance(read_usage, QuotaUsage) else None

    async def reset(self, tenant: str) -> None:
        """Forget the requests and tokens per minute that a tenant has used."""
        keys = [redis_key(tenant, usage) for usage in ("requests", "tokens")]
        await self._connection.execute(lambda: _awaitable(self._redis.delete(*keys)))

    async def aclose(self) -> None:
        """Finish the commands in progress and release all leases, within a second; then disconnect."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*self._entering)
                await self._reservations.flush()
                await self._renewer.aclose()
        await self._connection.aclose()

    async def _run_enter(self, lease: Lease, limits: QuotaLimits) -> QuotaRejection | None:
        keys = [redis_key(lease.tenant, usage) for usage in ("requests", "tokens", "calls")]
        bounds = [limits.requests_per_minute, limits.tokens_per_minute, limits.max_concurrent_calls]
        args = [*bounds, self._lease_s, lease.id]

        async def enter() -> _Entered:
            return _entered(await _awaitable(self._enter(keys=keys, args=args)))

        entered = await self._connection.execute(enter)
        if not isinstance(entered, _Entered):
            return None
        if entered.full:
            return QuotaRejection(QuotaMetric.CALLS, None)
        waits = entered.requests_s, entered.tokens_s
        return longer_wait(*waits) if any(waits) else None

    def _returned(self) -> None:
        """Send what Redis has missed."""
        self._renewer.renew_now()
        self._reservations.send()

    async def _renew(self, held: LeaseIds) -> bool:
        pipeline = self._redis.pipeline(transaction=False)
        for tenant, ids in held.items():
            pipeline.eval(HOLD, 1, redis_key(tenant, "calls"), str(self._lease_s), *ids)
        return await self._connection.execute(pipeline.execute) is not None

    async def _delete(self, ended: LeaseIds) -> bool:
        pipeline = self._redis.pipeline(transaction=False)
        for tenant, ids in ended.items():
            pipeline.zrem(redis_key(tenant, "calls"), *ids)
        return await self._connection.execute(pipeline.execute) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entered:
    """The answer of the script ENTER."""

    full: bool
    """Whether the limit of calls in flight is reached."""
    requests_s: float
    tokens_s: float


def _entered(answer: object) -> _Entered:
    """Read the script's answer. Raises ValueError if it is not one."""
    match answer:
        case [int(full), bytes(requests), bytes(tokens)]:
            entered = _Entered(full=bool(full), requests_s=float(requests), tokens_s=float(tokens))
        case _:
            raise ValueError("not the answer of the script")
    if not (0 <= entered.requests_s <= WAIT_MAX_S and 0 <= entered.tokens_s <= WAIT_MAX_S):
        raise ValueError("not the answer of the script")
    return entered


def _awaitable(result: object) -> Awaitable[object]:
    """Cast a script's result: the library's types leave open whether it is awaitable."""
    return cast("Awaitable[object]", result)
