"""A replica for a test to kill: `python replica.py URL TENANT CALLS_MAX LEASE_S` takes every lease.

It prints a line when it has them, and holds them until it is killed.
"""

import asyncio
import secrets
import sys
import time

from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.redis.quota_store import RedisQuotaStore
from togetherchat_server.tenants.tenants_file import QuotaLimits


async def main():
    url, tenant, max_concurrent_calls, lease_s = sys.argv[1:]
    store = RedisQuotaStore(
        url, timeout_s=10, clock=time.monotonic, replica=secrets.token_hex(8), lease_s=float(lease_s)
    )
    limits = QuotaLimits(max_concurrent_calls=int(max_concurrent_calls))
    leases = [await store.enter(tenant, limits) for _ in range(limits.max_concurrent_calls)]
    assert all(isinstance(one, Lease) for one in leases)
    sys.stdout.write("every lease is taken\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


asyncio.run(main())
