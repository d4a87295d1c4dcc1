"""Keeps Redis's record of this replica's calls in flight current: one task, while there are any.

The task renews every held lease three times in a lease's duration, and deletes ended leases in batches.
It sends one command at a time, so a renewal can never overtake a deletion.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias, final

from togetherchat_server.tenants.redis.leases import Lease, LeaseIds, LeaseRegistry

RENEWALS_PER_LEASE: Final = 3

LeaseCommand: TypeAlias = Callable[[LeaseIds], Awaitable[bool]]
"""Sends leases to Redis, and returns whether Redis executed the command."""


@final
class LeaseRenewer:
    """`renew` extends leases, and creates those that Redis does not have; `delete` deletes them."""

    def __init__(
        self,
        leases: LeaseRegistry,
        *,
        lease_s: float,
        renew: LeaseCommand,
        delete: LeaseCommand,
        clock: Callable[[], float],
    ) -> None:
        self._leases = leases
        self._every_s = lease_s / RENEWALS_PER_LEASE
        self._renew = renew
        self._delete = delete
        self._clock = clock
        self._renew_at_s = float("-inf")
        self._wake = asyncio.Event()
        self._delete_failed = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def hold(self, lease: Lease) -> None:
        self._leases.hold(lease)
        self._start()

    def release(self, lease: Lease) -> None:
        self._leases.end(lease)
        self._start()
        # After a failed deletion, leases wait for the next renewal: another try for each would fail too.
        if not self._delete_failed:
            self._wake.set()

    def renew_now(self) -> None:
        """Renew and delete at once: Redis is available again, and may have lost everything."""
        self._renew_at_s = self._clock()
        self._wake.set()

    async def aclose(self) -> None:
        """End and delete every lease. Leases that are held later are ignored."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._leases.end_all()
        ended = self._leases.ended()
        if ended:
            await self._delete(ended)

    def _start(self) -> None:
        if not self._closed and (self._task is None or self._task.done()):
            self._renew_at_s = self._clock() + self._every_s
            self._task = asyncio.create_task(self._run(), name="renew the leases of calls")

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            due = self._clock() >= self._renew_at_s
            ended = self._leases.ended()
            self._delete_failed = bool(ended) and not await self._delete(ended)
            # A lease whose deletion fails until the next renewal expires soon after that by itself.
            if due or not self._delete_failed:
                self._leases.forget(ended)
            if due:
                held = self._leases.held()
                if not (held or self._leases.ended()):
                    return
                self._renew_at_s = self._clock() + self._every_s
                if held:
                    await self._renew(held)
            await self._wait()

    async def _wait(self) -> None:
        """Wait until the next renewal, or until there is something to send."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._renew_at_s - self._clock())):
                await self._wake.wait()
