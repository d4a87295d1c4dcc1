"""The quota stores of replicas that share a Redis."""

import secrets
import time

from support.quotas import TODAY
from togetherchat_server.tenants.quota_store import Claim, Grant
from togetherchat_server.tenants.redis.quota_store import RedisQuotaStore

LONG_TIMEOUT_S = 10.0
"""Long enough for Redis to answer, however busy the machine is."""
CALLS = "togetherchat:{acme}:calls"
"""The key in Redis of the calls in flight of the tenant `acme`."""


def replica_store(redis, *, timeout_s=LONG_TIMEOUT_S, clock=time.monotonic, **more):
    """Return the store of one replica."""
    replica = secrets.token_hex(8)
    return RedisQuotaStore(redis.url, timeout_s=timeout_s, clock=clock, replica=replica, **more)


async def empty(client):
    """Return True if Redis has no call in flight of `acme`, else None."""
    return await client.zcard(CALLS) == 0 or None


async def use_tokens_together(store, tokens, limits):
    """One attempt of `acme` whose use is known exactly before it."""
    claim, reservation_id = Claim(tokens=tokens), secrets.token_hex(4)
    granted = await store.reserve(reservation_id, "acme", claim, limits, Grant(TODAY))
    assert isinstance(granted, Grant)
    store.settle(reservation_id, "acme", claim, claim, limits, granted.period)
