"""The quota stores of replicas that share a Redis."""

import secrets
import time

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
