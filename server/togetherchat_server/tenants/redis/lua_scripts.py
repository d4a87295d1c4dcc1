"""What Redis is told to do: the arithmetic of `rates` and of leases, by the clock of Redis.

Each script decides and books in one step, so that two replicas cannot both take the last place or the
last request. Every key ends by itself when nobody uses it any more.

A call in flight is a member of its tenant's sorted set, with the moment as its score at which it is
taken for lost. Who holds it puts that moment off; who dies does not, and so gives it back.
"""

from typing import Final

from togetherchat_server.tenants.rate_limiter import MINUTE_S, ROUNDING_S

_NOW: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
"""
_RATES: Final = f"""
local function used_until(key)
    return math.max(tonumber(redis.call('GET', key) or '0'), now)
end
local function book(key, until_s)
    redis.call('SET', key, string.format('%.6f', until_s), 'EX', math.ceil(until_s - now) + 1)
end
local function wait(key, per_minute)
    if per_minute == 0 then return 0 end
    local over = used_until(key) + {MINUTE_S} / per_minute - now - {MINUTE_S}
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

ENTER: Final = f"""{_NOW}{_RATES}{_LEASES}
local per_minute, max_concurrent_calls = tonumber(ARGV[1]), tonumber(ARGV[3])
if max_concurrent_calls > 0 and held(KEYS[3]) >= max_concurrent_calls then return {{1, '0', '0'}} end
local requests, tokens = wait(KEYS[1], per_minute), wait(KEYS[2], tonumber(ARGV[2]))
if requests == 0 and tokens == 0 then
    if per_minute > 0 then book(KEYS[1], used_until(KEYS[1]) + {MINUTE_S} / per_minute) end
    if max_concurrent_calls > 0 then hold(KEYS[3], tonumber(ARGV[4]), ARGV[5]) end
end
return {{0, string.format('%.6f', requests), string.format('%.6f', tokens)}}
"""
"""Keys: requests, tokens, calls. Arguments: three limits, seconds of a lease, the lease. Answers whether
every place is taken, and else how long to wait for a request and for tokens."""

SPEND: Final = f"""{_NOW}{_RATES}
book(KEYS[1], used_until(KEYS[1]) + tonumber(ARGV[2]) * {MINUTE_S} / tonumber(ARGV[1]))
return 0
"""
"""Key: tokens. Arguments: the limit, how many."""

HOLD: Final = f"""{_NOW}{_LEASES}
for place = 2, #ARGV do hold(KEYS[1], tonumber(ARGV[1]), ARGV[place]) end
return 0
"""
"""Key: calls. Arguments: seconds of a lease, the leases. Those that Redis has lost are there again."""


def key_of(tenant: str, account: str) -> str:
    # What is in braces decides the place in a cluster: a script's keys must be in one.
    return f"togetherchat:{{{tenant}}}:{account}"
