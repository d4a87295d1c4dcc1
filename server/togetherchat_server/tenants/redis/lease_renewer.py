"""Keeps what Redis knows of this replica's calls in flight true: one task, while there are any.

It puts off the end of every lease that is held three times in the life of one, and hands back those
whose calls have ended, as many at a time as have come together. One thing after the other: what puts
off a lease can never overtake what hands it back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias, final

from togetherchat_server.tenants.redis.leases import ByTenant, Lease, LeaseRegistry

RENEWALS_PER_LEASE: Final = 3

Teller: TypeAlias = Callable[[ByTenant], Awaitable[bool]]
"""Tells Redis of leases; whether it has heard."""


@final
class LeaseRenewer:
    """`renew` puts the end of leases off, and makes those known that are not; `release` ends them."""

    def __init__(
        self,
        leases: LeaseRegistry,
        *,
        lease_s: float,
        renew: Teller,
        release: Teller,
        clock: Callable[[], float],
    ) -> None:
        self._leases = leases
        self._every_s = lease_s / RENEWALS_PER_LEASE
        self._renew = renew
        self._release = release
        self._clock = clock
        self._renew_at_s = float("-inf")
        self._stirred = asyncio.Event()
        self._unheard = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def hold(self, lease: Lease) -> None:
        self._leases.hold(lease)
        self._start()

    def give_back(self, lease: Lease) -> None:
        self._leases.give_back(lease)
        self._start()
        # Where Redis did not hear of the last ones, to gather them all for each one more would be in vain.
        if not self._unheard:
            self._stirred.set()

    def renew_now(self) -> None:
        """Redis is back: what it missed, or has lost, it hears at once."""
        self._renew_at_s = self._clock()
        self._stirred.set()

    async def aclose(self) -> None:
        """Hand everything back, and keep nothing from then on."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._leases.give_back_all()
        gone = self._leases.gone()
        if gone:
            await self._release(gone)

    def _start(self) -> None:
        if not self._closed and (self._task is None or self._task.done()):
            self._renew_at_s = self._clock() + self._every_s
            self._task = asyncio.create_task(self._keep(), name="keep the leases of calls")

    async def _keep(self) -> None:
        while True:
            self._stirred.clear()
            due = self._clock() >= self._renew_at_s
            gone = self._leases.gone()
            # What Redis does not hear of by now ends by itself, not much later.
            self._unheard = bool(gone) and not await self._release(gone)
            if due or not self._unheard:
                self._leases.forget(gone)
            if due:
                held = self._leases.held()
                if not (held or self._leases.gone()):
                    return
                self._renew_at_s = self._clock() + self._every_s
                if held:
                    await self._renew(held)
            await self._rest()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._renew_at_s - self._clock())):
                await self._stirred.wait()
