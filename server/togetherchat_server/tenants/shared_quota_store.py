"""The quota store that all workers of a machine share, in shared memory.

The supervisor creates it, as a file without a name, and passes the descriptor to every worker. A row
belongs to a tenant: its usage of requests and tokens, what it has spent, and with one column per
worker, its calls in flight and what these have reserved.

Reading and then writing a usage requires the kernel's lock on the file's first byte. A worker owns a
column while it holds the lock on the column's byte. The kernel releases both when a process dies,
however it dies, so no lock is left behind. The next worker that starts takes the column and clears it;
until then, a rejection checks whether the owners of the other columns live. What a dead worker had
reserved counts as spent: its attempts may be billed. Each number is written in one operation, so a
death between two writes leaves each of them valid.

POSIX locks belong to a process, not to a descriptor; those of flock would be shared by all processes
that inherit it. They are released when the process closes any descriptor of the file, so nothing
here is closed before the process ends.
"""

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import tempfile
import time
from typing import Final, Self, final

from togetherchat_server.domain.periods import Period
from togetherchat_server.tenants.budget import Spending
from togetherchat_server.tenants.quota_store import (
    Claim,
    Costs,
    Grant,
    LocalQuotaStore,
    QuotaMetric,
    QuotaRejection,
    QuotaUsage,
    check_claim,
    check_quota,
    consume_request,
    granted,
    settled_tokens,
)
from togetherchat_server.tenants.rate_limiter import consume
from togetherchat_server.tenants.tenants_file import QuotaLimits

TENANTS_MAX: Final = 4096
"""Rows. In the life of a supervisor, each worker counts further tenants for itself."""
COLUMNS_PER_WORKER: Final = 4
"""A worker that is being replaced has two processes, and processes that drain keep their columns."""
LOCK_ATTEMPTS: Final = 400
LOCK_RETRY_EVERY_S: Final = 50e-6
REAP_EVERY_S: Final = 1.0
LOCK_WAIT_S: Final = 1.0
"""When a call that a budget rejected, because the lock was not available, may come again."""

_MAGIC: Final = 0x746F_6765_7468_6572
_HEADER: Final = struct.Struct("<QQ")
_HEADER_BYTES: Final = 64
_NAME_BYTES: Final = 16
_COUNT_AT: Final = 16
_LOADED_AT: Final = 24
_UNTILS: Final = 2
"""Of a row: requests and tokens."""
_SUMS: Final = 4
"""Of a row: day, month, and what was spent in them."""
_CELL: Final = 4
"""Of a row and a column: calls, tokens, and what is reserved of the day's and the month's budget."""
_EMPTY_CELL: Final = memoryview(bytes(8 * _CELL)).cast("q")
_CALLS, _TOKENS, _DAY_RESERVED, _MONTH_RESERVED = range(_CELL)
# Bytes that are locked and never written: one for the usages, and from _COLUMNS_BYTE on one per column.
_USAGES_BYTE: Final = 0
_COLUMNS_BYTE: Final = 1 << 40

_log = logging.getLogger(__name__)


def new_segment(*, workers: int) -> int:
    """Create an empty store for this many workers, and return its descriptor."""
    columns = COLUMNS_PER_WORKER * (workers + 1)
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("togetherchat-quotas")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _size(columns))
    os.pwrite(descriptor, _HEADER.pack(_MAGIC, columns), 0)
    return descriptor


@final
class SharedQuotaStore:
    """The shared store, as one worker uses it.

    Raises:
        ValueError: the descriptor is not that of a quota store, or every column is taken.
    """

    def __init__(self, descriptor: int) -> None:
        magic, self._columns = _HEADER.unpack(
            os.pread(descriptor, _HEADER.size, 0).ljust(_HEADER.size, b"\0")
        )
        if magic != _MAGIC:
            raise ValueError("the descriptor is not that of a quota store")
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _size(self._columns))
        view = memoryview(self._memory)
        names_end = _HEADER_BYTES + TENANTS_MAX * _NAME_BYTES
        untils_end = names_end + TENANTS_MAX * _UNTILS * 8
        sums_end = untils_end + TENANTS_MAX * _SUMS * 8
        self._count = view[_COUNT_AT : _COUNT_AT + 8].cast("Q")
        self._loaded = view[_LOADED_AT : _LOADED_AT + 8].cast("Q")
        self._names = view[_HEADER_BYTES:names_end]
        self._untils = view[names_end:untils_end].cast("d")
        self._sums = view[untils_end:sums_end].cast("q")
        self._cells = view[sums_end:].cast("q")
        self._rows: dict[str, int] = {}
        self._overflow = LocalQuotaStore()
        self._reap_at_s = float("-inf")
        self._column = self._claim()

    @classmethod
    def open_or_local(cls, descriptor: int) -> "Self | LocalQuotaStore":
        """Open the shared store; return one for this process alone if that fails."""
        try:
            return cls(descriptor)
        except (ValueError, OSError) as exc:
            _log.warning(
                "tenants' limits apply to this worker alone: cannot use the shared quota store: %s",
                exc,
            )
            return LocalQuotaStore()

    @property
    def loaded(self) -> bool:
        return bool(self._loaded[0])

    def enter(self, tenant: str, limits: QuotaLimits, now_s: float) -> QuotaRejection | None:
        row = self._row(tenant)
        if row is None:
            return self._overflow.enter(tenant, limits, now_s)
        locked = self._lock()
        try:
            rejection = check_quota(self._usage(row), limits, now_s)
            if rejection is not None and rejection.metric is QuotaMetric.CALLS and self._reap(now_s):
                rejection = check_quota(self._usage(row), limits, now_s)
            if rejection is None:
                self._cells[self._cell(row, self._column) + _CALLS] += 1
                self._untils[_UNTILS * row] = consume_request(self._untils[_UNTILS * row], limits, now_s)
            return rejection
        finally:
            self._unlock(locked)

    def leave(self, tenant: str) -> None:
        # No lock: only this process writes to its column.
        row = self._row(tenant)
        if row is None:
            self._overflow.leave(tenant)
        else:
            self._cells[self._cell(row, self._column) + _CALLS] -= 1

    def reserve(
        self, tenant: str, claim: Claim, limits: QuotaLimits, now_s: float, period: Period
    ) -> QuotaRejection | Grant:
        row = self._row(tenant)
        if row is None:
            return self._overflow.reserve(tenant, claim, limits, now_s, period)
        locked = self._lock()
        try:
            if not locked and limits.has_budget:
                return QuotaRejection(QuotaMetric.DAY_COST, LOCK_WAIT_S, 0)
            self._roll(row, period)
            usage = self._usage(row)
            rejection = check_claim(usage, claim, limits, now_s)
            if rejection is not None:
                return rejection
            cell = self._cell(row, self._column)
            self._cells[cell + _DAY_RESERVED] += claim.nano_usd
            self._cells[cell + _MONTH_RESERVED] += claim.nano_usd
            self._cells[cell + _TOKENS] += claim.tokens
            self._untils[_UNTILS * row + 1] = consume(
                usage.tokens_until_s, now_s, limits.tokens_per_minute, claim.tokens
            )
            usage.spending.reserve(claim.nano_usd)
            return granted(usage.spending, limits)
        finally:
            self._unlock(locked)

    def settle(
        self, tenant: str, claim: Claim, used: Claim, limits: QuotaLimits, now_s: float, period: Period
    ) -> None:
        row = self._row(tenant)
        if row is None:
            self._overflow.settle(tenant, claim, used, limits, now_s, period)
            return
        locked = self._lock()
        try:
            day, month, day_committed, month_committed = self._sums[_SUMS * row : _SUMS * (row + 1)]
            cell = self._cell(row, self._column)
            # First the cost, then the reservation: see `Spending.settle`.
            if period.day == day:
                self._sums[_SUMS * row + 2] = day_committed + used.nano_usd
                self._cells[cell + _DAY_RESERVED] -= claim.nano_usd
            if period.month == month:
                self._sums[_SUMS * row + 3] = month_committed + used.nano_usd
                self._cells[cell + _MONTH_RESERVED] -= claim.nano_usd
            self._cells[cell + _TOKENS] -= claim.tokens
            until_s = self._untils[_UNTILS * row + 1]
            self._untils[_UNTILS * row + 1] = settled_tokens(until_s, claim, used, limits, now_s)
        finally:
            self._unlock(locked)

    def usage(self, tenant: str, period: Period) -> QuotaUsage:
        row = self._row(tenant)
        if row is None:
            return self._overflow.usage(tenant, period)
        locked = self._lock()
        try:
            self._reap_columns()
            self._roll(row, period)
            return self._usage(row)
        finally:
            self._unlock(locked)

    def reset(self, tenant: str) -> None:
        row = self._row(tenant)
        if row is None:
            self._overflow.reset(tenant)
            return
        locked = self._lock()
        try:
            self._untils[_UNTILS * row] = self._untils[_UNTILS * row + 1] = 0.0
        finally:
            self._unlock(locked)

    def load(self, day_costs: Costs, month_costs: Costs, period: Period) -> None:
        rows = {tenant: self._row(tenant) for tenant in day_costs | month_costs}
        self._overflow.load(
            {tenant: cost for tenant, cost in day_costs.items() if rows[tenant] is None},
            {tenant: cost for tenant, cost in month_costs.items() if rows[tenant] is None},
            period,
        )
        locked = self._lock()
        try:
            if self._loaded[0]:
                return
            for tenant, row in rows.items():
                if row is not None:
                    self._roll(row, period)
                    self._sums[_SUMS * row + 2] += day_costs.get(tenant, 0)
                    self._sums[_SUMS * row + 3] += month_costs.get(tenant, 0)
            self._loaded[0] = 1
        finally:
            self._unlock(locked)

    def _usage(self, row: int) -> QuotaUsage:
        start, stop = self._cell(row, 0), self._cell(row + 1, 0)
        cells = self._cells[start:stop].tolist()
        day, month, day_committed, month_committed = self._sums[_SUMS * row : _SUMS * (row + 1)]
        return QuotaUsage(
            calls=sum(cells[_CALLS::_CELL]),
            requests_until_s=self._untils[_UNTILS * row],
            tokens_until_s=self._untils[_UNTILS * row + 1],
            tokens_reserved=sum(cells[_TOKENS::_CELL]),
            spending=Spending(
                day=day,
                month=month,
                day_committed=day_committed,
                month_committed=month_committed,
                day_reserved=sum(cells[_DAY_RESERVED::_CELL]),
                month_reserved=sum(cells[_MONTH_RESERVED::_CELL]),
            ),
        )

    def _roll(self, row: int, period: Period) -> None:
        """Begin a new day or month. The number of the period is written last: a death repeats all of it."""
        for offset, current, reserved in (
            (0, period.day, _DAY_RESERVED),
            (1, period.month, _MONTH_RESERVED),
        ):
            if current > self._sums[_SUMS * row + offset]:
                for column in range(self._columns):
                    self._cells[self._cell(row, column) + reserved] = 0
                self._sums[_SUMS * row + 2 + offset] = 0
                self._sums[_SUMS * row + offset] = current

    def _cell(self, row: int, column: int) -> int:
        return (row * self._columns + column) * _CELL

    def _row(self, tenant: str) -> int | None:
        row = self._rows.get(tenant)
        if row is None:
            row = self._find_or_add_row(hashlib.blake2b(tenant.encode(), digest_size=_NAME_BYTES).digest())
            if row is not None:
                self._rows[tenant] = row
        return row

    def _find_or_add_row(self, name: bytes) -> int | None:
        locked = self._lock()
        try:
            count = self._count[0]
            for row in range(count):
                if bytes(self._names[row * _NAME_BYTES : (row + 1) * _NAME_BYTES]) == name:
                    return row
            if count == TENANTS_MAX:
                return None
            self._names[count * _NAME_BYTES : (count + 1) * _NAME_BYTES] = name
            self._count[0] = count + 1
            return count
        finally:
            self._unlock(locked)

    def _claim(self) -> int:
        for column in range(self._columns):
            if self._try_lock(_COLUMNS_BYTE + column):
                locked = self._lock()
                try:
                    self._clear(column)
                finally:
                    self._unlock(locked)
                return column
        raise ValueError("every column is taken")

    def _reap(self, now_s: float) -> bool:
        """Clear the columns of dead processes, at most once a second. Return whether that was done."""
        if now_s < self._reap_at_s:
            return False
        self._reap_at_s = now_s + REAP_EVERY_S
        self._reap_columns()
        return True

    def _reap_columns(self) -> None:
        for column in range(self._columns):
            if column != self._column and self._try_lock(_COLUMNS_BYTE + column):
                self._clear(column)
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _COLUMNS_BYTE + column)

    def _clear(self, column: int) -> None:
        """Clear a column. What its dead owner had reserved counts as spent."""
        for row in range(self._count[0]):
            cell = self._cell(row, column)
            calls, tokens, day_reserved, month_reserved = self._cells[cell : cell + _CELL]
            if day_reserved or month_reserved:
                self._sums[_SUMS * row + 2] += day_reserved
                self._sums[_SUMS * row + 3] += month_reserved
            if calls or tokens or day_reserved or month_reserved:
                self._cells[cell : cell + _CELL] = _EMPTY_CELL

    def _lock(self) -> bool:
        """Lock the usages, and return whether that succeeded.

        The lock is held for some microseconds, so a process that holds it for 20 ms was stopped. What is
        counted without the lock may be wrong by one; waiting longer would stop every worker. Nothing is
        reserved of a budget without it.
        """
        for _ in range(LOCK_ATTEMPTS):
            if self._try_lock(_USAGES_BYTE):
                return True
            time.sleep(LOCK_RETRY_EVERY_S)
        return False

    def _unlock(self, locked: bool) -> None:  # noqa: FBT001  the result of `_lock`
        if locked:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _USAGES_BYTE)

    def _try_lock(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True


def _size(columns: int) -> int:
    return _HEADER_BYTES + TENANTS_MAX * (_NAME_BYTES + 8 * (_UNTILS + _SUMS + _CELL * columns))
