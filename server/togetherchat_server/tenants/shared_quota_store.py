"""The quota store that all workers of a machine share, in shared memory.

The supervisor creates it, as a file without a name, and passes the descriptor to every worker. A row
belongs to a tenant: its usage of requests and tokens, and its calls in flight, with one column per
worker.

Reading and then writing a usage requires the kernel's lock on the file's first byte. A worker owns a
column while it holds the lock on the column's byte. The kernel releases both when a process dies,
however it dies, so no lock is left behind. The next worker that starts takes the column and clears it;
until then, a rejection for calls in flight checks whether the owners of the other columns live. Each
number is written in one operation, so a death between two writes leaves each of them valid.

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

from togetherchat_server.tenants.quota_store import (
    LocalQuotaStore,
    QuotaMetric,
    QuotaRejection,
    QuotaUsage,
    check_quota,
    consume_request,
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

_MAGIC: Final = 0x746F_6765_7468_6572
_HEADER: Final = struct.Struct("<QQ")
_HEADER_BYTES: Final = 64
_NAME_BYTES: Final = 16
_COUNT_AT: Final = 16
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
        usages_end = names_end + TENANTS_MAX * 16
        self._count = view[_COUNT_AT : _COUNT_AT + 8].cast("Q")
        self._names = view[_HEADER_BYTES:names_end]
        self._untils = view[names_end:usages_end].cast("d")
        self._calls = view[usages_end:].cast("I")
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
                self._calls[row * self._columns + self._column] += 1
                self._untils[2 * row] = consume_request(self._untils[2 * row], limits, now_s)
            return rejection
        finally:
            self._unlock(locked)

    def leave(self, tenant: str) -> None:
        # No lock: only this process writes to its column.
        row = self._row(tenant)
        if row is None:
            self._overflow.leave(tenant)
        else:
            self._calls[row * self._columns + self._column] -= 1

    def spend(self, tenant: str, tokens: int, limits: QuotaLimits, now_s: float) -> None:
        row = self._row(tenant)
        if row is None:
            self._overflow.spend(tenant, tokens, limits, now_s)
            return
        locked = self._lock()
        try:
            until_s = self._untils[2 * row + 1]
            self._untils[2 * row + 1] = consume(until_s, now_s, limits.tokens_per_minute, tokens)
        finally:
            self._unlock(locked)

    def _usage(self, row: int) -> QuotaUsage:
        start = row * self._columns
        return QuotaUsage(
            calls=sum(self._calls[start : start + self._columns]),
            requests_until_s=self._untils[2 * row],
            tokens_until_s=self._untils[2 * row + 1],
        )

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
                self._clear(column)
                return column
        raise ValueError("every column is taken")

    def _reap(self, now_s: float) -> bool:
        """Clear the columns of dead processes, at most once a second. Return whether that was done."""
        if now_s < self._reap_at_s:
            return False
        self._reap_at_s = now_s + REAP_EVERY_S
        for column in range(self._columns):
            if column != self._column and self._try_lock(_COLUMNS_BYTE + column):
                self._clear(column)
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _COLUMNS_BYTE + column)
        return True

    def _clear(self, column: int) -> None:
        for row in range(self._count[0]):
            self._calls[row * self._columns + column] = 0

    def _lock(self) -> bool:
        """Lock the usages, and return whether that succeeded.

        The lock is held for some microseconds, so a process that holds it for 20 ms was stopped. What is
        counted without the lock may be wrong by one; waiting longer would stop every worker.
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
    return _HEADER_BYTES + TENANTS_MAX * (_NAME_BYTES + 16 + 4 * columns)
