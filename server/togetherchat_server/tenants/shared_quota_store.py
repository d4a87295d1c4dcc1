"""The tally of all workers of one machine, in memory that they share.

The supervisor makes it, a file without a name, and hands its descriptor to every worker. A row is a
tenant: its two accounts, and how many calls each worker has in flight, in a column of its own.

What reads and then writes an account holds a lock of the kernel's on the file's first byte. A column
is its worker's for as long as that holds the lock on the column's byte. The kernel takes both from a
process that dies, however it dies: so no lock is left behind, the next worker that starts takes the
column and clears it, and until then a rejection for calls in flight looks whether the others still
live. Each number is written at once, so a death between two writes leaves each of them whole.

POSIX locks are of a process, not of a descriptor: flock's would be shared by all who inherit it. And
they end when the process closes any descriptor of the file, so nothing here is closed before the end.
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

from togetherchat_server.tenants.policy import TenantLimits
from togetherchat_server.tenants.quota_store import (
    LocalQuotaStore,
    QuotaMetric,
    QuotaRejection,
    QuotaUsage,
    check_quota,
    consume_request,
)
from togetherchat_server.tenants.rate_limiter import consume

TENANTS_MAX: Final = 4096
"""Rows. Tenants beyond, in the life of a supervisor, are counted by each worker for itself."""
COLUMNS_PER_WORKER: Final = 4
"""Two processes fill a place while one takes over, and those that leave drain meanwhile."""
LOCK_TRIES: Final = 400
LOCK_PAUSE_S: Final = 50e-6
REAP_EVERY_S: Final = 1.0

_MARK: Final = 0x746F_6765_7468_6572
_HEAD: Final = struct.Struct("<QQ")
_HEAD_BYTES: Final = 64
_NAME_BYTES: Final = 16
_COUNT_AT: Final = 16
# Bytes that are locked and never written: the accounts, and from there on one a column.
_ACCOUNTS_BYTE: Final = 0
_COLUMNS_BYTE: Final = 1 << 40

_log = logging.getLogger(__name__)


def new_segment(*, workers: int) -> int:
    """The descriptor of a new, empty tally for so many workers."""
    columns = COLUMNS_PER_WORKER * (workers + 1)
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("togetherchat-tally")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _size(columns))
    os.pwrite(descriptor, _HEAD.pack(_MARK, columns), 0)
    return descriptor


@final
class SharedQuotaStore:
    """One worker's end of it.

    Raises:
        ValueError: the descriptor is no tally, or every column is taken.
    """

    def __init__(self, descriptor: int) -> None:
        mark, self._columns = _HEAD.unpack(os.pread(descriptor, _HEAD.size, 0).ljust(_HEAD.size, b"\0"))
        if mark != _MARK:
            raise ValueError("the descriptor is no tally")
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _size(self._columns))
        view = memoryview(self._memory)
        names_end = _HEAD_BYTES + TENANTS_MAX * _NAME_BYTES
        accounts_end = names_end + TENANTS_MAX * 16
        self._count = view[_COUNT_AT : _COUNT_AT + 8].cast("Q")
        self._names = view[_HEAD_BYTES:names_end]
        self._untils = view[names_end:accounts_end].cast("d")
        self._calls = view[accounts_end:].cast("I")
        self._rows: dict[str, int] = {}
        self._beyond = LocalQuotaStore()
        self._reap_at_s = float("-inf")
        self._column = self._claim()

    @classmethod
    def open_or_local(cls, descriptor: int) -> "Self | LocalQuotaStore":
        """The shared tally, or one of this process alone where there is no place in it."""
        try:
            return cls(descriptor)
        except (ValueError, OSError) as exc:
            _log.warning("limits of tenants hold for this worker alone: %s", exc)
            return LocalQuotaStore()

    def enter(self, tenant: str, limits: TenantLimits, now_s: float) -> QuotaRejection | None:
        row = self._row(tenant)
        if row is None:
            return self._beyond.enter(tenant, limits, now_s)
        locked = self._lock()
        try:
            rejection = check_quota(self._account(row), limits, now_s)
            if rejection is not None and rejection.metric is QuotaMetric.CALLS and self._reap(now_s):
                rejection = check_quota(self._account(row), limits, now_s)
            if rejection is None:
                self._calls[row * self._columns + self._column] += 1
                self._untils[2 * row] = consume_request(self._untils[2 * row], limits, now_s)
            return rejection
        finally:
            self._unlock(locked)

    def leave(self, tenant: str) -> None:
        """No lock: nobody else writes into this column."""
        row = self._row(tenant)
        if row is None:
            self._beyond.leave(tenant)
        else:
            self._calls[row * self._columns + self._column] -= 1

    def spend(self, tenant: str, tokens: int, limits: TenantLimits, now_s: float) -> None:
        row = self._row(tenant)
        if row is None:
            self._beyond.spend(tenant, tokens, limits, now_s)
            return
        locked = self._lock()
        try:
            until_s = self._untils[2 * row + 1]
            self._untils[2 * row + 1] = consume(until_s, now_s, limits.tokens_per_minute, tokens)
        finally:
            self._unlock(locked)

    def _account(self, row: int) -> QuotaUsage:
        start = row * self._columns
        return QuotaUsage(
            calls=sum(self._calls[start : start + self._columns]),
            requests_until_s=self._untils[2 * row],
            tokens_until_s=self._untils[2 * row + 1],
        )

    def _row(self, tenant: str) -> int | None:
        row = self._rows.get(tenant)
        if row is None:
            row = self._find_or_add(hashlib.blake2b(tenant.encode(), digest_size=_NAME_BYTES).digest())
            if row is not None:
                self._rows[tenant] = row
        return row

    def _find_or_add(self, name: bytes) -> int | None:
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
            if self._try(_COLUMNS_BYTE + column):
                self._clear(column)
                return column
        raise ValueError("every column is taken")

    def _reap(self, now_s: float) -> bool:
        """Clear the columns of those who died. Whether that was looked at: at most once a second."""
        if now_s < self._reap_at_s:
            return False
        self._reap_at_s = now_s + REAP_EVERY_S
        for column in range(self._columns):
            if column != self._column and self._try(_COLUMNS_BYTE + column):
                self._clear(column)
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _COLUMNS_BYTE + column)
        return True

    def _clear(self, column: int) -> None:
        for row in range(self._count[0]):
            self._calls[row * self._columns + column] = 0

    def _lock(self) -> bool:
        """Take turns. It is held for some microseconds: a holder that keeps it for 20 ms was stopped, and
        what is counted without it may be one off, where waiting on would stop every worker.
        """
        for _ in range(LOCK_TRIES):
            if self._try(_ACCOUNTS_BYTE):
                return True
            time.sleep(LOCK_PAUSE_S)
        return False

    def _unlock(self, locked: bool) -> None:  # noqa: FBT001  what `_lock` said
        if locked:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _ACCOUNTS_BYTE)

    def _try(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True


def _size(columns: int) -> int:
    return _HEAD_BYTES + TENANTS_MAX * (_NAME_BYTES + 16 + 4 * columns)
