"""The accounts of requests and tokens that replicas share, in Redis.

The same arithmetic as `rates`, by the clock of Redis: one script decides and books, so that two
replicas cannot both take the last request. Calls in flight are not shared: a replica that dies would
leave its own behind, and to notice that takes more than limits are worth.

Redis is no part of the service's own life. It is waited for a moment at most; when it does not
answer, what each machine counts for itself holds, and Redis is asked again a second later. That is
said once, and once more when it is back. No text of Redis's errors is passed on: the address may
have a password in it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, cast, final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from togetherchat_server.tenants.limits import TenantLimits
from togetherchat_server.tenants.rates import MINUTE_S, ROUNDING_S
from togetherchat_server.tenants.tally import Refusal, longest

ASK_AGAIN_S: Final = 1.0
CONNECTIONS_MAX: Final = 16
SPENDING_MAX: Final = 1000
"""Bookings under way beyond which one is left out: Redis is too slow for them then."""
CLOSE_S: Final = 1.0

_SHARED: Final = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
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
ENTER: Final = f"""{_SHARED}
local per_minute = tonumber(ARGV[1])
local requests, tokens = wait(KEYS[1], per_minute), wait(KEYS[2], tonumber(ARGV[2]))
if requests == 0 and tokens == 0 and per_minute > 0 then
    book(KEYS[1], used_until(KEYS[1]) + {MINUTE_S} / per_minute)
end
return {{string.format('%.6f', requests), string.format('%.6f', tokens)}}
"""
SPEND: Final = f"""{_SHARED}
book(KEYS[1], used_until(KEYS[1]) + tonumber(ARGV[2]) * {MINUTE_S} / tonumber(ARGV[1]))
return 0
"""

_log = logging.getLogger(__name__)


@final
class RedisQuotas:
    """`patience_s` is the longest that a call waits for Redis.

    Raises:
        ValueError: the address is none of Redis's.
    """

    def __init__(self, url: str, *, patience_s: float, clock: Callable[[], float]) -> None:
        pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  untyped keywords
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=patience_s,
            socket_timeout=patience_s,
            socket_connect_timeout=patience_s,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        self._enter = self._redis.register_script(ENTER)
        self._spend = self._redis.register_script(SPEND)
        self._patience_s = patience_s
        self._clock = clock
        self._away = False
        self._ask_at_s = float("-inf")
        self._spending: set[asyncio.Task[None]] = set()

    @property
    def away(self) -> int:
        """1 while Redis does not answer."""
        return int(self._away)

    async def enter(self, tenant: str, limits: TenantLimits) -> Refusal | None:
        """Take a request, if there is one; None where Redis says nothing."""
        if not (limits.requests_per_minute or limits.tokens_per_minute):
            return None
        keys = [_key(tenant, "requests"), _key(tenant, "tokens")]
        amounts = [limits.requests_per_minute, limits.tokens_per_minute]
        said = await self._ask(lambda: _run(self._enter(keys=keys, args=amounts)))
        if said is None:
            return None
        requests_s, tokens_s = (float(text) for text in cast("Sequence[bytes]", said))
        return longest(requests_s, tokens_s) if requests_s or tokens_s else None

    def spend(self, tenant: str, tokens: int, limits: TenantLimits) -> None:
        """Book tokens, in a task of its own: the call that used them has ended."""
        if len(self._spending) < SPENDING_MAX:
            task = asyncio.create_task(self._book(tenant, tokens, limits.tokens_per_minute))
            self._spending.add(task)
            task.add_done_callback(self._spending.discard)

    async def aclose(self) -> None:
        """Finish what is being booked, for a second at most, and disconnect."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*self._spending)
        with suppress(RedisError, OSError):
            await self._redis.aclose()
            await self._redis.connection_pool.disconnect()

    async def _book(self, tenant: str, tokens: int, per_minute: int) -> None:
        keys = [_key(tenant, "tokens")]
        await self._ask(lambda: _run(self._spend(keys=keys, args=[per_minute, tokens])))

    async def _ask(self, question: Callable[[], Awaitable[object]]) -> object:
        """The answer; None where Redis is away, or was a moment ago."""
        now_s = self._clock()
        if self._away and now_s < self._ask_at_s:
            return None
        # One call at a time finds out whether it is back.
        self._ask_at_s = now_s + ASK_AGAIN_S
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await question()
        except (RedisError, OSError) as exc:
            self._missed(exc)
            return None
        if self._away:
            self._away = False
            _log.warning("Redis answers again: tenants' limits hold for all replicas")
        return answer

    def _missed(self, exc: Exception) -> None:
        self._ask_at_s = self._clock() + ASK_AGAIN_S
        if not self._away:
            self._away = True
            name = type(exc).__name__
            _log.warning("Redis does not answer (%s): tenants' limits hold for each machine alone", name)


def _run(asked: object) -> Awaitable[object]:
    """A script's answer. The library's types leave open whether there is something to wait for."""
    return cast("Awaitable[object]", asked)


def _key(tenant: str, account: str) -> str:
    # What is in braces decides the place in a cluster: a script's keys must be in one.
    return f"togetherchat:{{{tenant}}}:{account}"
