"""The audit log: one JSON object per line for each security event, in a stream of its own.

`domain/audit.py` defines the events. A thread writes their lines, so no call waits for them, and a flood
of equal events writes a bounded number of lines.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Final, final

from togetherchat_server.domain.audit import AUDIT_LOGGER, AuditEntry, AuditEvent, emit
from togetherchat_server.domain.bounded import remember
from togetherchat_server.domain.reasons import REJECTS_CREDENTIAL
from togetherchat_server.telemetry.audit_file import AuditFile, line_of
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.log_writer import EntryWriter, LogWriter
from togetherchat_server.telemetry.repeat_limiter import RepeatLimiter

LINES_PER_SECOND: Final = 50
"""Lines of one event of one tenant, address and reason."""
PAIRS_MAX: Final = 4096
"""Pairs of a credential and an address whose first use is remembered."""
SUPPRESSED: Final = "suppressed"


@final
class AuditLog:
    """The audit log of one process, from now until `close`."""

    def __init__(self, target: str) -> None:
        """Open the file at the path `target`, or standard error for `stderr`. Raises OSError."""
        self._file = AuditFile(target)
        self._writer = LogWriter(self._file, line_of, name="audit log")
        self._handler = AuditHandler(self._writer)
        AUDIT_LOGGER.addHandler(self._handler)

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._file.dropped + self._writer.dropped

    def close(self) -> None:
        """Write what is queued, for at most two seconds, and close the stream."""
        AUDIT_LOGGER.removeHandler(self._handler)
        self._writer.close()
        self._file.close()


@final
class AuditHandler(logging.Handler):
    """Passes events to a writer. Of equal ones, 50 a second are written, and the rest is counted.

    Each event has a limiter of its own: a flood of rejected keys does not hide the first use of a key.
    """

    def __init__(
        self, writer: EntryWriter[AuditEntry], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._writer = writer
        self._limiters = defaultdict[AuditEvent, RepeatLimiter](
            lambda: RepeatLimiter(LINES_PER_SECOND, clock=clock)
        )

    def emit(self, record: logging.LogRecord) -> None:
        entry: object = record.msg
        if not isinstance(entry, AuditEntry):
            return
        suppressed = self._limiters[entry.event].admit(_kind(entry))
        if suppressed is not None:
            self._writer.write(_with_suppressed(entry, suppressed))


@final
class CredentialAudit:
    """The sink of call records that reports rejected credentials, and the first use of accepted ones."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], None] = {}
        """Pairs of a credential and an address, the one that was used last at the end."""

    def __call__(self, record: CallRecord) -> None:
        if record.reason in REJECTS_CREDENTIAL:
            emit(
                AuditEvent.CREDENTIAL_REJECTED,
                key_id=record.key_id,
                subject=record.subject,
                tenant=record.tenant,
                reason=record.reason,
                detail=record.detail,
                client_address=record.client_address,
                protocol=record.protocol,
                method=record.method,
                request_id=record.id,
            )
        elif record.tenant and not self._seen(record.key_id or record.subject, record.client_address):
            emit(
                AuditEvent.CREDENTIAL_FIRST_USED,
                key_id=record.key_id,
                subject=record.subject,
                tenant=record.tenant,
                client_address=record.client_address,
                protocol=record.protocol,
                method=record.method,
                request_id=record.id,
            )

    def _seen(self, credential: str, address: str) -> bool:
        """Return whether the pair is remembered, and remember it."""
        pair = (credential, address)
        seen = pair in self._used
        remember(self._used, pair, None, at_most=PAIRS_MAX)
        return seen


def _kind(entry: AuditEntry) -> Hashable:
    """Return what equal events have in common."""
    return tuple(entry.fields.get(name) for name in ("tenant", "client_address", "reason"))


def _with_suppressed(entry: AuditEntry, suppressed: int) -> AuditEntry:
    """Return the entry with the number of events that were not written, added to its own number."""
    if not suppressed:
        return entry
    total = suppressed + int(entry.fields.get(SUPPRESSED, 0))
    return replace(entry, fields={**entry.fields, SUPPRESSED: total})
