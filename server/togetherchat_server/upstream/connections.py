"""One connection to the upstream, and the pool of them: aiohttp's, with other manners.

Owns when a connection is dropped, kept, or excused for having broken. aiohttp as it comes

- closes politely: with an unsent rest of a request, or over TLS with a peer that does not
  say goodbye, the socket stays for up to half a minute. Ours aborts.
- cannot tell a keep-alive that ran out from an upstream that died over a request. Ours says
  `KeepAliveRanOutError` where a *reused* connection broke at once, with not one byte of an
  answer; that request was never looked at and may be sent again, whatever its method.
- resends a GET on any connection that breaks. Ours breaks with errors that it does not know.
- keeps a connection that was sent bytes nobody asked for, and takes them for the answer to
  the next request. Ours drops it.
- takes a reset for a clean end where the end of the connection ends the body, and tells nobody
  who waits for a body that its chunks have become garbage. Ours fails the body in both.

The hooks are `TCPConnector._factory`, `.connect` and `._release` and the methods of
`ResponseHandler`. Should a version of aiohttp stop calling them, the tests of
`tests/integration/upstream` named after these points fail.
"""

import functools
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, cast, final

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    import asyncio

    from aiohttp.abc import AbstractResolver
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection as Lease
    from aiohttp.tracing import Trace

KEEPALIVE_RACE_S = 1.0
"""How soon a reused connection must break for its request to be sent again.

A keep-alive that ran out shows within one round trip. What takes longer may be an upstream
that died over the request, and the tokens it had made are paid for.
"""


class ConnectionBrokeError(aiohttp.ClientConnectionError):
    """The connection ended before the head of an answer was there."""


class KeepAliveRanOutError(ConnectionBrokeError):
    """It had been used before, and ended as soon as it was used again, without a byte."""


@final
class Connection(ResponseHandler):
    """Leased for a request, resting between two; see the top of the file for its manners."""

    def __init__(self, loop: "asyncio.AbstractEventLoop", *, now_s: Callable[[], float]) -> None:
        super().__init__(loop)
        self._now_s = now_s
        self._made_s = now_s()
        self._asked_s = self._made_s
        self._leases = 0
        self._idle = True
        self._answered = False

    def lease(self, *, age_max_s: float) -> None:
        """A request is about to be sent. An old connection serves this one, and no other."""
        self._idle = False
        self._answered = False
        self._leases += 1
        self._asked_s = self._now_s()
        if self._asked_s - self._made_s > age_max_s:
            self.force_close()

    def rest(self) -> None:
        """The answer is complete; the connection waits in the pool, or is closed already."""
        self._idle = True

    def data_received(self, data: bytes) -> None:
        # aiohttp also calls this with nothing, to go on with what it has.
        if data and self._idle:
            self.abort()
            return
        self._answered = self._answered or bool(data)
        super().data_received(data)
        if self._idle and self._buffer:  # a second answer behind the first
            self.abort()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        if isinstance(exc, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError):
            broke = KeepAliveRanOutError() if self._ran_out() else ConnectionBrokeError()
            # Not what carries a piece of an answer; an OSError has its number and no more.
            broke.__cause__ = exc_cause if isinstance(exc_cause, OSError) else None
            exc = broke
        self._break_answer(exc)
        super().set_exception(exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None:
            self._break_answer(exc)
        super().connection_lost(exc)

    def close(self) -> None:
        self.abort()

    def _break_answer(self, cause: BaseException) -> None:
        answer = self._payload
        if answer is not None and not answer.is_eof() and answer.exception() is None:
            answer.set_exception(aiohttp.ClientPayloadError("the answer was cut short"), cause)

    def _ran_out(self) -> bool:
        at_once = self._now_s() - self._asked_s <= KEEPALIVE_RACE_S
        return self._leases > 1 and not self._answered and at_once


@final
class Connector(aiohttp.TCPConnector):
    """The pool. Its size is not limited here: `Engine` counts the requests.

    Args:
        reuse_s: how long an unused connection is kept; 0 for connections of one request.
    """

    def __init__(
        self,
        *,
        reuse_s: float,
        age_max_s: float,
        tls: ssl.SSLContext,
        now_s: Callable[[], float],
        resolver: "AbstractResolver",
    ) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  aiohttp leaves a tuple open
            limit=0,
            ssl=tls,
            resolver=resolver,
            force_close=reuse_s == 0,
            keepalive_timeout=reuse_s or None,
        )
        self._age_max_s = age_max_s
        self._factory = functools.partial(Connection, loop=self._loop, now_s=now_s)

    @property
    def leased(self) -> int:
        """Connections that serve a request, or are being made for one."""
        return len(self._acquired)

    @property
    def resting(self) -> int:
        """Connections that wait in the pool."""
        return sum(map(len, self._conns.values()))

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: "list[Trace]",
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  aiohttp's signature
    ) -> "Lease":
        lease = await super().connect(req, traces, timeout)
        cast("Connection", lease.protocol).lease(age_max_s=self._age_max_s)
        return lease

    def _release(
        self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        super()._release(key, protocol, should_close=should_close)
        cast("Connection", protocol).rest()
