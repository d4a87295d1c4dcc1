"""Replicas' ends of the accounts that they share in Redis."""

import secrets
import time

from togetherchat_server.tenants.redis.quota_store import RedisQuotaStore

PATIENT_S = 10.0
"""What is asked must be answered, however busy the machine is."""
CALLS = "togetherchat:{acme}:calls"
"""Where Redis has the calls in flight of the tenant `acme`."""


def replica_end(redis, *, timeout_s=PATIENT_S, clock=time.monotonic, **more):
    """As a machine of its own would have it."""
    replica = secrets.token_hex(8)
    return RedisQuotaStore(redis.url, timeout_s=timeout_s, clock=clock, replica=replica, **more)


async def empty(within):
    """True once Redis, asked through `within`, knows of no call in flight of `acme`."""
    return await within.zcard(CALLS) == 0 or None
