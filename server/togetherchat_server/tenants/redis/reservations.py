"""What the attempts of all replicas have reserved and spent, in Redis.

Redis decides while it answers. While it does not, this machine's own store has decided already, and a
replica commits at most a small part of each budget (`offline_ratio`). What was settled meanwhile is
sent when Redis answers again.
"""

import asyncio
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Protocol, cast, final

from redis.asyncio import Redis

from togetherchat_server.domain.periods import Period
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.quota_store import Claim, Grant, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.redis.connection import RedisConnection
from togetherchat_server.tenants.redis.lua_scripts import redis_key
from togetherchat_server.tenants.redis.reservation_scripts import (
    HOLD_RESERVATIONS,
    KEEP_S,
    LOAD,
    RESERVE,
    SETTLE,
)
from togetherchat_server.tenants.tenants_file import QuotaLimits

UNSENT_MAX: Final = 100_000
"""Settlements that wait for Redis. Further ones are dropped: their reservations expire, in full."""
LOADS_MAX: Final = 3
"""Attempts to load the sums of a tenant before a call is rejected."""
OFFLINE_RETRY_S: Final = 5.0
WAIT_MAX_S: Final = 366 * 86_400.0
"""Longer waits are no answer of ours: a tenant cannot use a year's tokens in one call."""

_METRICS: Final = {
    "tokens": QuotaMetric.TOKENS,
    "day": QuotaMetric.DAY_COST,
    "month": QuotaMetric.MONTH_COST,
}


class SpentBefore(Protocol):
    """Returns what a tenant has spent in a day and a month, as far as ledger and machine know, in 1e-9 USD.

    Raises:
        ServiceError: USAGE_UNAVAILABLE.
    """

    async def __call__(self, tenant: str, period: Period) -> tuple[int, int]: ...


@dataclass(slots=True, kw_only=True)
class _Held:
    """A reservation of this replica. `generation` is empty if Redis may not know it."""

    tenant: str
    claim: Claim
    period: Period
    generation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settlement:
    """A settled reservation, as Redis must learn it."""

    id: str
    tenant: str
    generation: str
    period: Period
    cost: int
    per_minute: int
    token_difference: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reserved:
    """The answer of the script RESERVE."""

    outcome: str
    wait_s: float
    lefts: tuple[int, int]
    generation: str


@final
class RedisReservations:
    """Reserves and settles. `spent_before` is None if no tenant has a budget."""

    def __init__(
        self,
        connection: RedisConnection,
        *,
        lease_s: float,
        offline_ratio: float,
        spent_before: SpentBefore | None,
    ) -> None:
        redis: Redis = connection.redis
        self._connection = connection
        self._lease_s = lease_s
        self._offline_ratio = offline_ratio
        self._spent_before = spent_before
        self._reserve = redis.register_script(RESERVE)
        self._settle = redis.register_script(SETTLE)
        self._load = redis.register_script(LOAD)
        self._hold = redis.register_script(HOLD_RESERVATIONS)
        self._held: dict[str, _Held] = {}
        self._generations: dict[str, str] = {}
        self._offline: dict[str, int] = {}
        self._unsent: list[_Settlement] = []
        self._sender: asyncio.Task[None] | None = None

    async def reserve(
        self, reservation_id: str, tenant: str, claim: Claim, limits: QuotaLimits, local: Grant
    ) -> QuotaRejection | Grant:
        """Reserve for all replicas, unless it does not fit. `local` is what this machine has granted."""
        if tenant in self._offline:
            # Redis must know what was spent without it before it decides again.
            await self.flush()
        held = _Held(tenant=tenant, claim=claim, period=local.period, generation="")
        # Held before the answer: if the call is cancelled meanwhile, Redis may have the reservation.
        self._held[reservation_id] = held
        try:
            reserved = await self._ask(reservation_id, tenant, claim, limits, local.period)
        except BaseException:
            self.settle(reservation_id, tenant, claim, Claim(), limits, local.period)
            raise
        if reserved is None:
            return self._grant_offline(reservation_id, tenant, claim, limits, local)
        if reserved.outcome != "ok":
            del self._held[reservation_id]
            return QuotaRejection(
                _METRICS[reserved.outcome], reserved.wait_s or None, max(0, reserved.lefts[0])
            )
        held.generation = reserved.generation
        if limits.has_budget:
            self._offline.pop(tenant, None)
            await self._follow(tenant, reserved.generation)
        return Grant(local.period, *reserved.lefts)

    def settle(
        self, reservation_id: str, tenant: str, claim: Claim, used: Claim, limits: QuotaLimits, period: Period
    ) -> None:
        """Settle, without waiting."""
        held = self._held.pop(reservation_id, None)
        if tenant in self._offline and held is not None and not held.generation:
            self._offline[tenant] += used.nano_usd - claim.nano_usd
        if len(self._unsent) < UNSENT_MAX:
            self._unsent.append(
                _Settlement(
                    id=reservation_id,
                    tenant=tenant,
                    generation="" if held is None else held.generation,
                    period=period,
                    cost=used.nano_usd,
                    per_minute=limits.tokens_per_minute,
                    token_difference=used.tokens - claim.tokens,
                )
            )
        self.send()

    def send(self) -> None:
        """Send what is settled, in a task of its own."""
        if self._unsent and (self._sender is None or self._sender.done()):
            self._sender = asyncio.create_task(self._send_all(), name="send settlements to Redis")

    async def flush(self) -> None:
        """Wait until everything is sent, or Redis does not answer."""
        self.send()
        if self._sender is not None:
            await asyncio.wait({self._sender})

    async def _send_all(self) -> None:
        while self._unsent:
            settlement = self._unsent[0]
            if not await self._send_one(settlement):
                return  # `send` is called again when Redis is available again
            # A load may have dropped it meanwhile.
            if self._unsent and self._unsent[0] is settlement:
                del self._unsent[0]

    async def _send_one(self, settlement: _Settlement) -> bool:
        """Return whether Redis has executed it."""
        keys = _keys(settlement.tenant)
        args = [
            KEEP_S,
            settlement.id,
            settlement.cost,
            settlement.generation,
            settlement.period.day,
            settlement.period.month,
            settlement.per_minute,
            settlement.token_difference,
        ]
        return (
            await self._connection.execute(lambda: _awaitable(self._settle(keys=keys, args=args))) is not None
        )

    async def _ask(
        self, reservation_id: str, tenant: str, claim: Claim, limits: QuotaLimits, period: Period
    ) -> _Reserved | None:
        """Return Redis's answer; None if Redis is unavailable."""
        args = [
            KEEP_S,
            period.day,
            period.month,
            limits.day_budget,
            limits.month_budget,
            claim.nano_usd,
            limits.tokens_per_minute,
            claim.tokens,
            self._lease_s,
            reservation_id,
        ]

        async def reserve() -> _Reserved:
            return _reserved(await _awaitable(self._reserve(keys=_keys(tenant), args=args)))

        for _ in range(LOADS_MAX):
            reserved = await self._connection.execute(reserve)
            if not isinstance(reserved, _Reserved):
                return None
            if reserved.outcome != "load":
                return reserved
            if not await self._load_sums(tenant, period):
                return None
        raise ServiceError(
            Reason.USAGE_UNAVAILABLE, f"what tenant {tenant} has spent cannot be loaded into Redis"
        )

    async def _load_sums(self, tenant: str, period: Period) -> bool:
        """Load what the tenant has spent before. Return whether Redis answered."""
        assert self._spent_before is not None  # noqa: S101  a tenant has a budget
        # What this machine has settled is part of its own sums.
        self._unsent = [one for one in self._unsent if one.tenant != tenant]
        day_cost, month_cost = await self._spent_before(tenant, period)
        generation = secrets.token_hex(8)
        args = [KEEP_S, period.day, period.month, day_cost, month_cost, generation]
        keys = _keys(tenant)[:3]
        return (
            await self._connection.execute(lambda: _awaitable(self._load(keys=keys, args=args))) is not None
        )

    async def _follow(self, tenant: str, generation: str) -> None:
        """Send the reservations of this replica again if Redis has lost them."""
        before = self._generations.get(tenant, generation)
        self._generations[tenant] = generation
        if before == generation:
            return
        lost: dict[Period, list[tuple[str, _Held]]] = {}
        for reservation_id, held in self._held.items():
            if held.tenant == tenant and held.generation != generation:
                lost.setdefault(held.period, []).append((reservation_id, held))
        for period, entries in lost.items():
            pairs = [part for one, held in entries for part in (one, held.claim.nano_usd)]
            args = [KEEP_S, self._lease_s, period.day, period.month, *pairs]
            if await self._hold_again(tenant, args):
                for _, held in entries:
                    held.generation = generation

    async def _hold_again(self, tenant: str, args: list[int | float | str]) -> bool:
        """Return whether Redis has executed it."""
        keys = _keys(tenant)[:3]
        return (
            await self._connection.execute(lambda: _awaitable(self._hold(keys=keys, args=args))) is not None
        )

    def _grant_offline(
        self, reservation_id: str, tenant: str, claim: Claim, limits: QuotaLimits, local: Grant
    ) -> QuotaRejection | Grant:
        """Decide without Redis: a small part of each budget may be committed by each replica."""
        if not limits.has_budget:
            return local
        budget = min(budget for budget in (limits.day_budget, limits.month_budget) if budget)
        left = int(budget * self._offline_ratio) - self._offline.get(tenant, 0)
        if claim.nano_usd > left:
            # Redis may have executed the command, although its answer was late.
            self.settle(reservation_id, tenant, claim, Claim(), limits, local.period)
            metric = QuotaMetric.DAY_COST if budget == limits.day_budget else QuotaMetric.MONTH_COST
            return QuotaRejection(metric, OFFLINE_RETRY_S, max(0, left))
        self._offline[tenant] = self._offline.get(tenant, 0) + claim.nano_usd
        return local


def _keys(tenant: str) -> list[str]:
    return [redis_key(tenant, part) for part in ("spending", "reservations", "claims", "tokens")]


def _reserved(answer: object) -> _Reserved:
    """Read the script's answer. Raises ValueError if it is not one."""
    match answer:
        case [bytes(outcome), bytes(wait_s), bytes(first), bytes(second), bytes(generation)]:
            reserved = _Reserved(
                outcome=outcome.decode("ascii"),
                wait_s=float(wait_s),
                lefts=(int(first), int(second)),
                generation=generation.decode("ascii"),
            )
        case _:
            raise ValueError("not the answer of the script")
    if reserved.outcome not in {"ok", "load", *_METRICS} or not 0 <= reserved.wait_s <= WAIT_MAX_S:
        raise ValueError("not the answer of the script")
    return reserved


def _awaitable(result: object) -> Awaitable[object]:
    """Cast a script's result: the library's types leave open whether it is awaitable."""
    return cast("Awaitable[object]", result)
