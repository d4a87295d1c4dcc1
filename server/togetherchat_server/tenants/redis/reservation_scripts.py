"""Lua scripts for Redis: the arithmetic of `budget`, for the attempts of all replicas.

Three keys belong to a tenant: a hash with the sums of its current day and month, a sorted set of
reservations by the moment at which their lease expires, and a hash of what each has reserved. A
reservation whose lease has expired belonged to a replica that died: it is committed in full.

The sums are only valid with a `generation`, which `LOAD` sets: without one, Redis was restarted without
its data, and a replica has to load what was spent before. A reservation that is missing when it is
settled was committed in full, if its generation is the current one; otherwise Redis has lost it, or
never had it, and its cost is added.

Numbers of Lua are exact up to 2^53, which is 9 million USD. Sums are kept by HINCRBY, which is exact
beyond that.
"""

from typing import Final

from togetherchat_server.tenants.rate_limiter import MINUTE_S
from togetherchat_server.tenants.redis.lua_scripts import NOW, RATES

KEEP_S: Final = 40 * 86_400
"""How long the sums of a tenant without calls are kept: longer than a month."""

_SUMS: Final = """
local sums, leases, claims = KEYS[1], KEYS[2], KEYS[3]
local function sum(field) return tonumber(redis.call('HGET', sums, field) or '0') end
local function add(field, amount) redis.call('HINCRBY', sums, field, amount) end
local function roll(day, month)
    if day > sum('day') then redis.call('HSET', sums, 'day', day, 'day_committed', 0, 'day_reserved', 0) end
    if month > sum('month') then
        redis.call('HSET', sums, 'month', month, 'month_committed', 0, 'month_reserved', 0)
    end
end
local function settle(lease, cost)
    local claim = redis.call('HGET', claims, lease)
    if not claim then return false end
    local amount, day, month = claim:match('^(%d+) (%d+) (%d+)$')
    if tonumber(day) == sum('day') then
        add('day_committed', cost or amount); add('day_reserved', '-' .. amount)
    end
    if tonumber(month) == sum('month') then
        add('month_committed', cost or amount); add('month_reserved', '-' .. amount)
    end
    redis.call('HDEL', claims, lease)
    redis.call('ZREM', leases, lease)
    return true
end
local function expire()
    local old = redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('%.6f', now), 'LIMIT', 0, 100)
    for _, lease in ipairs(old) do settle(lease, nil) end
end
local function keep()
    for _, key in ipairs({sums, leases, claims}) do redis.call('EXPIRE', key, ARGV[1]) end
end
"""

RESERVE: Final = f"""{NOW}{RATES}{_SUMS}
local tokens_key = KEYS[4]
local day, month = tonumber(ARGV[2]), tonumber(ARGV[3])
local day_budget, month_budget, amount = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local per_minute, tokens = tonumber(ARGV[7]), tonumber(ARGV[8])
local lease_s, lease, generation = tonumber(ARGV[9]), ARGV[10], ''
local day_left, month_left = 0, 0
if day_budget > 0 or month_budget > 0 then
    generation = redis.call('HGET', sums, 'generation')
    if not generation then return {{'load', '0', '0', '0', ''}} end
    expire()
    roll(day, month)
    if month_budget > 0 then month_left = month_budget - sum('month_committed') - sum('month_reserved') end
    if day_budget > 0 then day_left = day_budget - sum('day_committed') - sum('day_reserved') end
    if month_budget > 0 and amount > month_left then
        return {{'month', '0', string.format('%.0f', month_left), '0', generation}}
    end
    if day_budget > 0 and amount > day_left then
        return {{'day', '0', string.format('%.0f', day_left), '0', generation}}
    end
end
local waiting = wait(tokens_key, per_minute, math.min(tokens, per_minute))
if waiting > 0 then
    local left = math.floor((now + {MINUTE_S} - used_until(tokens_key)) * per_minute / {MINUTE_S})
    return {{'tokens', string.format('%.6f', waiting), string.format('%.0f', left), '0', generation}}
end
if per_minute > 0 then store(tokens_key, used_until(tokens_key) + tokens * {MINUTE_S} / per_minute) end
if day_budget > 0 or month_budget > 0 then
    add('day_reserved', ARGV[6]); add('month_reserved', ARGV[6])
    redis.call('HSET', claims, lease, ARGV[6] .. ' ' .. redis.call('HGET', sums, 'day') .. ' '
        .. redis.call('HGET', sums, 'month'))
    redis.call('ZADD', leases, string.format('%.6f', now + lease_s), lease)
    keep()
end
day_left, month_left = string.format('%.0f', day_left - amount), string.format('%.0f', month_left - amount)
return {{'ok', '0', day_left, month_left, generation}}
"""
"""Keys: sums, leases, claims, tokens. Arguments: seconds to keep the keys, day, month, the two budgets, the
amount, tokens per minute, tokens, the duration of a lease in seconds, the reservation's id. Returns what
rejects the reservation (or `ok`, or `load` without a generation), a wait in seconds, what is left of the
day and of the month (of the rejecting limit first), and the generation."""

SETTLE: Final = f"""{NOW}{RATES}{_SUMS}
local lease, cost, generation, day, month = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local per_minute, tokens = tonumber(ARGV[7]), tonumber(ARGV[8])
local current = redis.call('HGET', sums, 'generation')
if current and not settle(lease, cost) and current ~= generation then
    roll(day, month)
    if day == sum('day') then add('day_committed', cost) end
    if month == sum('month') then add('month_committed', cost) end
end
if current then keep() end
if per_minute > 0 and tokens ~= 0 then
    local until_s = used_until(KEYS[4]) + tokens * {MINUTE_S} / per_minute
    if until_s > now then store(KEYS[4], until_s) else redis.call('DEL', KEYS[4]) end
end
return 0
"""
"""Keys: sums, leases, claims, tokens. Arguments: seconds to keep the keys, the reservation's id, its cost,
the generation in which it was reserved (empty: Redis may not know it), its day and month, tokens per
minute, and the difference of tokens used and reserved."""

LOAD: Final = f"""{NOW}{_SUMS}
if redis.call('HGET', sums, 'generation') then return 0 end
redis.call('DEL', sums)
redis.call('HSET', sums, 'day', ARGV[2], 'month', ARGV[3], 'day_committed', ARGV[4], 'month_committed',
    ARGV[5], 'day_reserved', 0, 'month_reserved', 0, 'generation', ARGV[6])
for _, claim in ipairs(redis.call('HVALS', claims)) do
    local amount, day, month = claim:match('^(%d+) (%d+) (%d+)$')
    if day == ARGV[2] then add('day_reserved', amount) end
    if month == ARGV[3] then add('month_reserved', amount) end
end
keep()
return 1
"""
"""Keys: sums, leases, claims. Arguments: seconds to keep the keys, day, month, the cost of the day and of
the month so far, a new generation. Returns whether the sums were loaded; another replica may have been
first."""

HOLD_RESERVATIONS: Final = f"""{NOW}{_SUMS}
local day, month = ARGV[3], ARGV[4]
if not redis.call('HGET', sums, 'generation') then return 0 end
for i = 5, #ARGV, 2 do
    if redis.call('HSETNX', claims, ARGV[i], ARGV[i + 1] .. ' ' .. day .. ' ' .. month) == 1 then
        if tonumber(day) == sum('day') then add('day_reserved', ARGV[i + 1]) end
        if tonumber(month) == sum('month') then add('month_reserved', ARGV[i + 1]) end
        redis.call('ZADD', leases, string.format('%.6f', now + tonumber(ARGV[2])), ARGV[i])
    end
end
keep()
return 1
"""
"""Keys: sums, leases, claims. Arguments: seconds to keep the keys, the duration of a lease in seconds, day,
month, then pairs of a reservation's id and amount. Creates those that are missing."""
