"""What tenants have in use over all replicas: requests, tokens and calls in flight, in Redis.

A call asks once, before its provider is asked, and is let in where Redis says nothing: then what its
machine counts holds alone. A call in flight is a lease, which its replica keeps up while the call
lasts. So a replica that dies gives its calls back when their leases end, and a Redis that comes back
empty hears of the calls that are in flight.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, cast, final

from redis.asyncio import Redis

from togetherchat_server.tenants.policy import TenantLimits
from togetherchat_server.tenants.quota_store import QuotaMetric, QuotaRejection, longer_wait
from togetherchat_server.tenants.redis.connection import RedisConnection
from togetherchat_server.tenants.redis.lease_renewer import LeaseRenewer
from togetherchat_server.tenants.redis.leases import ByTenant, Lease, LeaseRegistry
from togetherchat_server.tenants.redis.lua_scripts import ENTER, HOLD, SPEND, key_of

LEASE_S: Final = 15.0
"""How long a call counts whose replica has died."""
SPENDING_MAX: Final = 1000
"""Bookings under way beyond which one is left out: Redis is too slow for them then."""
CLOSE_S: Final = 1.0


@final
class RedisQuotaStore:
    """One replica's end of the accounts.

    `timeout_s` is the longest that a call waits for Redis. `replica` tells this process from all
    others.

    Raises:
        ValueError: the address is none of Redis's.
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
        self._keeper = LeaseRenewer(
            self._leases, lease_s=lease_s, renew=self._renew, release=self._release, clock=clock
        )
        self._link = RedisConnection(url, timeout_s=timeout_s, clock=clock, on_return=self._keeper.renew_now)
        self._redis: Redis = self._link.redis
        self._enter = self._redis.register_script(ENTER)
        self._spend = self._redis.register_script(SPEND)
        self._spending: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[QuotaRejection | None]] = set()

    @property
    def away(self) -> int:
        """1 while Redis does not answer."""
        return int(self._link.away)

    async def enter(self, tenant: str, limits: TenantLimits) -> QuotaRejection | Lease | None:
        """Take a request and a place, if there are; what is to be given back when the call has ended."""
        if not (limits.requests_per_minute or limits.tokens_per_minute or limits.max_concurrent_calls):
            return None
        lease = self._leases.new(tenant)
        # In a task of its own: whether a call that is cancelled meanwhile has a place is known only
        # when Redis has answered.
        asking = asyncio.create_task(self._ask(lease, limits))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            await asyncio.wait({asking})
        except asyncio.CancelledError:
            if limits.max_concurrent_calls:
                asking.add_done_callback(lambda _: self._keeper.give_back(lease))
            raise
        rejection = asking.result()
        if rejection is not None or not limits.max_concurrent_calls:
            return rejection
        # Also where Redis said nothing: it hears of this call when it is back.
        self._keeper.hold(lease)
        return lease

    def leave(self, lease: Lease) -> None:
        """Give the place back. Nobody waits for that."""
        self._keeper.give_back(lease)

    def spend(self, tenant: str, tokens: int, limits: TenantLimits) -> None:
        """Book tokens, in a task of its own: the call that used them has ended."""
        if len(self._spending) < SPENDING_MAX:
            task = asyncio.create_task(self._book(tenant, tokens, limits.tokens_per_minute))
            self._spending.add(task)
            task.add_done_callback(self._spending.discard)

    async def aclose(self) -> None:
        """Finish what is being booked, hand back what is held, for a second at most, and disconnect."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*self._spending, *self._asking)
                await self._keeper.aclose()
        await self._link.aclose()

    async def _ask(self, lease: Lease, limits: TenantLimits) -> QuotaRejection | None:
        keys = [key_of(lease.tenant, account) for account in ("requests", "tokens", "calls")]
        asked = [limits.requests_per_minute, limits.tokens_per_minute, limits.max_concurrent_calls]
        args = [*asked, self._lease_s, lease.id]
        said = await self._link.ask(lambda: _run(self._enter(keys=keys, args=args)))
        if said is None:
            return None
        full, requests, tokens = cast("Sequence[bytes | int]", said)
        if full:
            return QuotaRejection(QuotaMetric.CALLS, None)
        requests_s, tokens_s = float(requests), float(tokens)
        return longer_wait(requests_s, tokens_s) if requests_s or tokens_s else None

    async def _book(self, tenant: str, tokens: int, per_minute: int) -> None:
        keys = [key_of(tenant, "tokens")]
        await self._link.ask(lambda: _run(self._spend(keys=keys, args=[per_minute, tokens])))

    async def _renew(self, held: ByTenant) -> bool:
        batch = self._redis.pipeline(transaction=False)
        for tenant, names in held.items():
            batch.eval(HOLD, 1, key_of(tenant, "calls"), str(self._lease_s), *names)
        return await self._link.ask(batch.execute) is not None

    async def _release(self, gone: ByTenant) -> bool:
        batch = self._redis.pipeline(transaction=False)
        for tenant, names in gone.items():
            batch.zrem(key_of(tenant, "calls"), *names)
        return await self._link.ask(batch.execute) is not None


def _run(asked: object) -> Awaitable[object]:
    """A script's answer. The library's types leave open whether there is something to wait for."""
    return cast("Awaitable[object]", asked)
