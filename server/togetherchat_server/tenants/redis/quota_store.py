"""The usage of tenants over all replicas, in Redis: requests, tokens and calls in flight.

A call queries Redis once, before its first attempt. If Redis does not answer, the call is admitted by the
count of its machine alone. A call in flight is a lease, which its replica renews while the call lasts.
So the calls of a replica that dies are released when their leases expire, and a Redis that was
restarted without its data receives the calls that are in flight.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast, final

from redis.asyncio import Redis

from togetherchat_server.tenants.quota_store import QuotaMetric, QuotaRejection, longer_wait
from togetherchat_server.tenants.redis.connection import RedisConnection
from togetherchat_server.tenants.redis.lease_renewer import LeaseRenewer
from togetherchat_server.tenants.redis.leases import Lease, LeaseIds, LeaseRegistry
from togetherchat_server.tenants.redis.lua_scripts import ENTER, HOLD, SPEND, redis_key
from togetherchat_server.tenants.tenants_file import QuotaLimits

LEASE_S: Final = 15.0
"""How long a call of a replica that died still counts."""
SPENDING_MAX: Final = 1000
"""Counts of tokens in progress. Further ones are dropped: Redis is too slow for them."""
CLOSE_TIMEOUT_S: Final = 1.0
WAIT_MAX_S: Final = 366 * 86_400.0
"""Longer waits are no answer of ours: a tenant cannot use a year's tokens in one call."""


@final
class RedisQuotaStore:
    """The shared store, as one replica uses it.

    `timeout_s` is the longest that a call waits for Redis. `replica` is the unique name of this process.

    Raises:
        ValueError: the address is not one of Redis.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        clock: Callable[[], float],
        replica: str,
        lease_s: float = LEASE_S,
    ) -> None:
        self._leases = LeaseRegistry(replica)
        self._lease_s = lease_s
        self._renewer = LeaseRenewer(
            self._leases, lease_s=lease_s, renew=self._renew, delete=self._delete, clock=clock
        )
        self._connection = RedisConnection(
            url, timeout_s=timeout_s, clock=clock, on_return=self._renewer.renew_now
        )
        self._redis: Redis = self._connection.redis
        self._enter = self._redis.register_script(ENTER)
        self._spend = self._redis.register_script(SPEND)
        self._spending: set[asyncio.Task[None]] = set()
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

    def spend(self, tenant: str, tokens: int, limits: QuotaLimits) -> None:
        """Count tokens, in a task of its own: the call that used them has ended."""
        if len(self._spending) < SPENDING_MAX:
            task = asyncio.create_task(self._run_spend(tenant, tokens, limits.tokens_per_minute))
            self._spending.add(task)
            task.add_done_callback(self._spending.discard)

    async def aclose(self) -> None:
        """Finish the commands in progress and release all leases, within a second; then disconnect."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*self._spending, *self._entering)
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

    async def _run_spend(self, tenant: str, tokens: int, per_minute: int) -> None:
        keys = [redis_key(tenant, "tokens")]
        await self._connection.execute(lambda: _awaitable(self._spend(keys=keys, args=[per_minute, tokens])))

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
