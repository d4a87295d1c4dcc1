"""Lua scripts for Redis: the arithmetic of `rate_limiter` and of leases, on Redis's own clock.

Each script decides and counts in one step, so two replicas cannot both get the last call or the last
request. Every key expires when it is not used.

A call in flight is a member of its tenant's sorted set; its score is the moment at which the lease
expires. The replica that holds the lease renews it. A replica that dies does not, so its calls are
released.
"""

from typing import Final

from togetherchat_server.tenants.rate_limiter import MINUTE_S, ROUNDING_S

NOW: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
"""
RATES: Final = f"""
local function used_until(key)
    return math.max(tonumber(redis.call('GET', key) or '0'), now)
end
local function store(key, until_s)
    redis.call('SET', key, string.format('%.6f', until_s), 'EX', math.ceil(until_s - now) + 1)
end
local function wait(key, per_minute, units)
    if per_minute == 0 then return 0 end
    local over = used_until(key) + units * {MINUTE_S} / per_minute - now - {MINUTE_S}
    return over > {ROUNDING_S} and over or 0
end
"""
_LEASES: Final = """
local function hold(key, lease_s, lease)
    redis.call('ZADD', key, string.format('%.6f', now + lease_s), lease)
    redis.call('EXPIRE', key, math.ceil(lease_s) + 1)
end
local function held(key)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.6f', now))
    return redis.call('ZCARD', key)
end
"""

ENTER: Final = f"""{NOW}{RATES}{_LEASES}
local per_minute, max_concurrent_calls = tonumber(ARGV[1]), tonumber(ARGV[3])
if max_concurrent_calls > 0 and held(KEYS[3]) >= max_concurrent_calls then return {{1, '0', '0'}} end
local requests, tokens = wait(KEYS[1], per_minute, 1), wait(KEYS[2], tonumber(ARGV[2]), 1)
if requests == 0 and tokens == 0 then
    if per_minute > 0 then store(KEYS[1], used_until(KEYS[1]) + {MINUTE_S} / per_minute) end
    if max_concurrent_calls > 0 then hold(KEYS[3], tonumber(ARGV[4]), ARGV[5]) end
end
return {{0, string.format('%.6f', requests), string.format('%.6f', tokens)}}
"""
"""Keys: requests, tokens, calls. Arguments: three limits, the duration of a lease in seconds, the lease.
Returns whether the limit of calls is reached, and the waits for a request and for tokens in seconds."""

HOLD: Final = f"""{NOW}{_LEASES}
for i = 2, #ARGV do hold(KEYS[1], tonumber(ARGV[1]), ARGV[i]) end
return 0
"""
"""Key: calls. Arguments: the duration of a lease in seconds, the leases. Creates leases that are missing."""


def redis_key(tenant: str, usage: str) -> str:
    # The braces are a hash tag: in a cluster, all keys of a script must be in the same slot.
    return f"togetherchat:{{{tenant}}}:{usage}"
