"""Connects what calls cost: the usage ledger, the quotas of tenants, and the journal between them.

A budget counts what was spent before the process started. So before a tenant with a budget is served, the
process adds what killed processes left, reads the sums of the day and the month from the ledger, and gives
them to the quota store. While the ledger does not answer, calls of such tenants fail with
USAGE_UNAVAILABLE, and the process tries again.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from togetherchat_server.domain.periods import Period, period_of
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.tenants.quota_store import QuotaStore
from togetherchat_server.usage.journal import left_journals

if TYPE_CHECKING:
    from togetherchat_server.usage.ledger import UsageLedger

RETRY_EVERY_S: Final = 0.5
START_WAIT_S: Final = 3.0
"""How long a start waits for the sums, if a tenant has a budget. Then it serves without them."""

_log = logging.getLogger(__name__)


@final
class SpendingLoader:
    """Loads what tenants have spent into the quota store of this machine."""

    def __init__(
        self,
        ledger: "UsageLedger",
        store: QuotaStore,
        *,
        journals: Path | None,
        wall_clock: Callable[[], float],
    ) -> None:
        """`journals` is the folder of the journals of all processes; None without one."""
        self._ledger = ledger
        self._journals = journals
        self._store = store
        self._wall_clock = wall_clock
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, wait: bool) -> None:
        """Load in the background; `wait` for the result for a while."""
        self._task = asyncio.create_task(self._run(), name="load what tenants have spent")
        if wait:
            await asyncio.wait({self._task}, timeout=START_WAIT_S)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def spent_before(self, tenant: str, period: Period) -> tuple[int, int]:
        """Return what a tenant has spent in a day and a month, for a Redis that does not know it.

        Raises:
            ServiceError: USAGE_UNAVAILABLE.
        """
        spending = self._store.usage(tenant, period).spending
        day = await self._ledger.reader.cost_by_tenant(period.day_start_us, period.day_end_us)
        month = await self._ledger.reader.cost_by_tenant(period.month_start_us, period.month_end_us)
        return (
            max(spending.day_committed, day.get(tenant, 0)),
            max(spending.month_committed, month.get(tenant, 0)),
        )

    async def _run(self) -> None:
        reported = False
        while True:
            try:
                if await self._load():
                    return
            except ServiceError as error:
                if not reported:
                    reported = True
                    _log.warning("budgets cannot be used yet: %s", error.message)
            await asyncio.sleep(RETRY_EVERY_S)

    async def _load(self) -> bool:
        """Return whether everything was loaded. Raises ServiceError."""
        if self._journals is None:
            await self._load_sums()
            return True
        if not self._ledger.drained:
            return False
        # One worker at a time: another one must not read the sums before these rows are in the ledger.
        with suppress(BlockingIOError), _locked(self._journals / "recovery"):
            await self._recover(self._journals)
            await self._load_sums()
            return True
        return False

    async def _recover(self, folder: Path) -> None:
        for journal in left_journals(folder):
            try:
                added = await self._ledger.insert(journal.rows)
            except BaseException:
                journal.release()
                raise
            journal.remove()
            if added:
                _log.warning("a process was killed: %d of its calls count in full in the usage ledger", added)

    async def _load_sums(self) -> None:
        if self._store.loaded:
            return
        period = period_of(int(self._wall_clock() * 1e6))
        day = await self._ledger.reader.cost_by_tenant(period.day_start_us, period.day_end_us)
        month = await self._ledger.reader.cost_by_tenant(period.month_start_us, period.month_end_us)
        self._store.load(dict(day), dict(month), period)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the lock of a file. Raises BlockingIOError if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
