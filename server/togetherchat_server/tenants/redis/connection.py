"""The way to Redis, and whether it answers.

Redis is no part of the service's own life. It is waited for a moment at most; when it does not
answer, what each machine counts for itself holds, and Redis is asked again a second later. That is
said once, and once more when it is back. No text of Redis's errors is passed on: the address may
have a password in it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

ASK_AGAIN_S: Final = 1.0
CONNECTIONS_MAX: Final = 16

_log = logging.getLogger(__name__)


@final
class RedisConnection:
    """`timeout_s` is the longest that anything waits for Redis; `on_return` is called when it is back.

    Raises:
        ValueError: the address is none of Redis's.
    """

    def __init__(
        self, url: str, *, timeout_s: float, clock: Callable[[], float], on_return: Callable[[], None]
    ) -> None:
        pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  untyped keywords
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self.redis: Final = Redis.from_pool(pool)
        self._patience_s = timeout_s
        self._clock = clock
        self._on_return = on_return
        self._away = False
        self._ask_at_s = float("-inf")

    @property
    def away(self) -> bool:
        return self._away

    async def ask(self, question: Callable[[], Awaitable[object]]) -> object:
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
            self._on_return()
        return answer

    async def aclose(self) -> None:
        with suppress(RedisError, OSError):
            await self.redis.aclose()
            await self.redis.connection_pool.disconnect()

    def _missed(self, exc: Exception) -> None:
        self._ask_at_s = self._clock() + ASK_AGAIN_S
        if not self._away:
            self._away = True
            name = type(exc).__name__
            _log.warning("Redis does not answer (%s): tenants' limits hold for each machine alone", name)
