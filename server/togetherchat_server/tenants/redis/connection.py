"""The connection to Redis, and whether Redis is available.

The service runs without Redis. Each command has a short timeout. When Redis does not answer, each
machine's own counts apply, and one command a second tries Redis again. One warning is logged when Redis
becomes unavailable, and one when it is available again. The texts of Redis's errors are not
logged: the address may contain a password.
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

RETRY_EVERY_S: Final = 1.0
CONNECTIONS_MAX: Final = 16

_log = logging.getLogger(__name__)


@final
class RedisConnection:
    """Executes commands. `timeout_s` bounds each one; `on_return` is called when Redis is available again.

    Raises:
        ValueError: the address is not one of Redis.
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
        self._timeout_s = timeout_s
        self._clock = clock
        self._on_return = on_return
        self._unavailable = False
        self._retry_at_s = float("-inf")

    @property
    def unavailable(self) -> bool:
        return self._unavailable

    async def execute(self, command: Callable[[], Awaitable[object]]) -> object:
        """Return the result of a command; None if Redis is unavailable, or was less than a second ago.

        A command may raise any exception for an answer that makes no sense: a port may be taken over by
        another program, and the library expects well-formed answers.
        """
        now_s = self._clock()
        if self._unavailable and now_s < self._retry_at_s:
            return None
        # While Redis is unavailable, one call at a time tries it.
        self._retry_at_s = now_s + RETRY_EVERY_S
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await command()
        except Exception as exc:  # noqa: BLE001  see above
            self._failed(exc)
            return None
        if self._unavailable:
            self._unavailable = False
            _log.warning("Redis is available again: tenants' limits apply to all replicas together")
            self._on_return()
        return result

    async def aclose(self) -> None:
        with suppress(RedisError, OSError):
            await self.redis.aclose()
            await self.redis.connection_pool.disconnect()

    def _failed(self, exc: Exception) -> None:
        self._retry_at_s = self._clock() + RETRY_EVERY_S
        if not self._unavailable:
            self._unavailable = True
            name = type(exc).__name__
            _log.warning("Redis is unavailable (%s): tenants' limits apply to each machine alone", name)
