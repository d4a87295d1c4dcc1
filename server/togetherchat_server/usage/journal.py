"""The journal of reservations: what calls have reserved of a budget, in case the process is killed.

Each process appends a line before an attempt is sent and one when it has ended, without waiting for the
disk: the kernel keeps what a killed process has written. A process holds a lock on its file for as long as
it lives. Another one that gets the lock knows that it has ended, and adds the calls which the ledger does
not have: an attempt that has not ended counts in full, because the provider may have billed it.

A file that has grown is replaced by a new one with the calls in flight. The one before is kept until the
next replacement: by then the rows of its calls are in the ledger, or in the files of the ledger's writer.
"""

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast, final

import orjson

from togetherchat_server.domain.call import Call
from togetherchat_server.usage.row import LedgerRow

BYTES_MAX: Final = 4 * 1024 * 1024
"""Size at which a file is replaced: about 15,000 attempts."""
KILLED: Final = "PROCESS_KILLED"
"""The reason in the rows of calls that were in flight when their process was killed."""

_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700

_log = logging.getLogger(__name__)


@final
class ReservationJournal:
    """The journal of this process. After a failure to write, it is not written any more.

    Raises:
        OSError: the folder or the file cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        self._folder = folder
        self._path, self._descriptor = _new_file(folder)
        self._previous: tuple[Path, int] | None = None
        self._bytes = 0
        self._open: dict[tuple[str, int], bytes] = {}
        self.failed = False
        """Whether a line could not be written: a call in flight may be missing after a kill."""

    def reserved(self, call: Call, attempt: int, *, tokens: int, nano_usd: int) -> None:
        """Record an attempt that is about to be sent."""
        line = orjson.dumps(
            {
                "id": call.record_id,
                "attempt": attempt,
                "tokens": tokens,
                "nano_usd": nano_usd,
                "time_us": call.received_us,
                "call_id": call.id,
                "tenant": call.tenant,
                "key_id": call.key_id,
                "subject": call.subject,
                "user": call.user,
                "model_requested": call.progress.model_requested,
                "model": call.progress.model,
                "method": call.method,
            }
        )
        self._open[call.record_id, attempt] = line
        self._write(line)

    def settled(self, call: Call, attempt: int, *, tokens: int, nano_usd: int) -> None:
        """Record what an attempt has used."""
        self._open.pop((call.record_id, attempt), None)
        self._write(
            orjson.dumps({"id": call.record_id, "attempt": attempt, "tokens": tokens, "nano_usd": nano_usd})
        )

    def close(self) -> None:
        """Close the journal, and remove it: a process that ends in order has settled everything."""
        self._drop_previous()
        if not self._open:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _write(self, line: bytes) -> None:
        if self.failed:
            return
        try:
            os.write(self._descriptor, line + b"\n")
            self._bytes += len(line) + 1
            if self._bytes > BYTES_MAX:
                self._replace_file()
        except OSError as problem:
            self.failed = True
            _log.error("the journal of reservations cannot be written: %s", problem.strerror)

    def _replace_file(self) -> None:
        self._drop_previous()
        self._previous = self._path, self._descriptor
        self._path, self._descriptor = _new_file(self._folder)
        lines = b"".join(line + b"\n" for line in self._open.values())
        os.write(self._descriptor, lines)
        self._bytes = len(lines)

    def _drop_previous(self) -> None:
        if self._previous is not None:
            path, descriptor = self._previous
            path.unlink(missing_ok=True)
            os.close(descriptor)
            self._previous = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftJournal:
    """The journal of a process that has ended, locked. `remove` it when its rows are in the ledger."""

    path: Path
    rows: Sequence[LedgerRow]
    descriptor: int

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def release(self) -> None:
        """Leave it to another process."""
        os.close(self.descriptor)


def left_journals(folder: Path) -> Iterator[LeftJournal]:
    """Yield the journals of processes that have ended."""
    for path in sorted(folder.glob("*.journal")):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                content = path.read_bytes()
            except OSError:  # its process lives, or another one has just removed it
                os.close(descriptor)
                continue
            yield LeftJournal(path=path, rows=rows_of(content), descriptor=descriptor)


def rows_of(content: bytes) -> list[LedgerRow]:
    """Return the rows of the calls in a journal. Incomplete or damaged lines are left out."""
    calls: dict[str, _JournalledCall] = {}
    for line in content.split(b"\n"):
        entry = _entry(line)
        if entry is None:
            continue
        record_id, attempt = str(entry["id"]), _number(entry, "attempt")
        if "tenant" in entry:
            call = calls.setdefault(record_id, _JournalledCall(first=entry))
            call.attempts[attempt] = _JournalledAttempt(
                _number(entry, "tokens"), _number(entry, "nano_usd"), ended=False
            )
        elif record_id in calls:
            calls[record_id].attempts[attempt] = _JournalledAttempt(
                _number(entry, "tokens"), _number(entry, "nano_usd"), ended=True
            )
    return [call.row() for call in calls.values()]


@dataclass(frozen=True, slots=True)
class _JournalledAttempt:
    tokens: int
    nano_usd: int
    ended: bool


@dataclass(slots=True, kw_only=True)
class _JournalledCall:
    """A call in a journal. `first` is the line of its first attempt."""

    first: dict[str, object]
    attempts: dict[int, _JournalledAttempt] = field(default_factory=dict[int, _JournalledAttempt])

    def row(self) -> LedgerRow:
        """Return its row. The tokens are not known by kind: all count as input."""

        def text(name: str) -> str:
            return str(self.first.get(name, ""))

        cut = [attempt for attempt in self.attempts.values() if not attempt.ended]
        return LedgerRow(
            id=text("id"),
            time_us=_number(self.first, "time_us"),
            call_id=text("call_id"),
            tenant=text("tenant"),
            key_id=text("key_id"),
            subject=text("subject"),
            user=text("user"),
            model_requested=text("model_requested"),
            model=text("model"),
            protocol="",
            method=text("method"),
            code="UNKNOWN",
            reason=KILLED,
            upstream="",
            upstream_request_id="",
            attempts=len(self.attempts),
            input_tokens=sum(attempt.tokens for attempt in self.attempts.values()),
            output_tokens=0,
            cached_tokens=0,
            reasoning_tokens=0,
            estimated=bool(cut),
            estimated_cost_nano_usd=sum(attempt.nano_usd for attempt in cut),
            cost_nano_usd=sum(attempt.nano_usd for attempt in self.attempts.values()),
            duration_us=0,
            first_token_us=None,
        )


def _entry(line: bytes) -> dict[str, object] | None:
    try:
        entry = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    members = cast("dict[str, object]", entry)
    return members if "id" in members and isinstance(members.get("attempt"), int) else None


def _number(entry: dict[str, object], name: str) -> int:
    value = entry.get(name, 0)
    return value if isinstance(value, int) else 0


def _new_file(folder: Path) -> tuple[Path, int]:
    """Create and lock a file: another one, if it was taken for a left one before it was locked."""
    while True:
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.journal"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        os.close(descriptor)
