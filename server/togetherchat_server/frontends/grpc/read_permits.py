"""Bounds the messages that strangers make gRPC buffer: those to health and reflection.

gRPC buffers a whole message before Python sees any of it. Health and reflection need no credential, so
each of their calls could fill the memory with one message. Here a message is read only with a permit, of
which there are few. The request of an honest client arrives with its headers: it has its permit for less
than a millisecond, and nothing waits.

A peer that sends slowly must not keep others out. So peers take turns, each address one, and a permit
that others wait for is taken from the peer that has had it longest.
"""

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Protocol, final

from togetherchat_server.domain.addresses import network_of
from togetherchat_server.frontends.grpc.peer import host_of

PERMITS: Final = 2
READ_TIMEOUT_S: Final = 1.0
CONTENDED_S: Final = 0.05
"""How long a peer keeps a permit that another address waits for."""


class ReadingContext(Protocol):
    """What is used of a call's context."""

    def peer(self) -> str: ...

    async def read(self) -> object: ...


class ReadTimeoutError(Exception):
    """The peer did not send its message in time."""


@final
class ReadPermits:
    """The permits of one process."""

    def __init__(self, *, permits: int = PERMITS, clock: Callable[[], float]) -> None:
        self._free = permits
        self._clock = clock
        self._holders: dict[_Holder, None] = {}
        """The longest holder first."""
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By network, in the order of their turns."""
        self._preempting: asyncio.TimerHandle | None = None

    async def read(self, context: ReadingContext, *, timeout_s: float = READ_TIMEOUT_S) -> object:
        """Return the next message of a call, or gRPC's mark of the end.

        Raises:
            ReadTimeoutError: the peer did not send it within `timeout_s`, or others waited for the permit.
        """
        network = network_of(host_of(context.peer()))
        if not self._free:
            await self._wait(network)
        else:
            self._free -= 1
        timeout = asyncio.timeout(timeout_s)
        holder = _Holder(timeout, self._clock())
        self._holders[holder] = None
        try:
            async with timeout:
                return await context.read()
        except TimeoutError:
            raise ReadTimeoutError from None
        finally:
            del self._holders[holder]
            self._pass_on()

    async def _wait(self, network: str) -> None:
        """Wait for the turn of this network. On return, the caller has a permit."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(network, deque()).append(turn)
        self._schedule_preemption()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(network, turn)
            else:
                self._pass_on()
            raise

    def _forget(self, network: str, turn: "asyncio.Future[None]") -> None:
        turns = self._waiting.get(network)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[network]

    def _pass_on(self) -> None:
        """Give a permit to the first call of the network whose turn it is, else release it."""
        while self._waiting:
            network, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[network] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _schedule_preemption(self) -> None:
        if self._preempting is not None or not self._holders:
            return
        due_s = next(iter(self._holders)).since_s + CONTENDED_S
        self._preempting = asyncio.get_running_loop().call_later(
            max(0.0, due_s - self._clock()), self._preempt
        )

    def _preempt(self) -> None:
        """Take the permit of the longest holder, while others wait."""
        self._preempting = None
        if not self._waiting:
            return
        now_s, waiting = self._clock(), sum(map(len, self._waiting.values()))
        for holder in itertools.islice(self._holders, waiting):
            if now_s - holder.since_s >= CONTENDED_S:
                holder.expire()
        self._preempting = asyncio.get_running_loop().call_later(CONTENDED_S, self._preempt)


@final
class _Holder:
    """A call that has a permit."""

    __slots__ = ("_timeout", "since_s")

    def __init__(self, timeout: asyncio.Timeout, since_s: float) -> None:
        self._timeout = timeout
        self.since_s = since_s

    def expire(self) -> None:
        """Time the read out."""
        if not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())
