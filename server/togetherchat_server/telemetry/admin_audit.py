"""Reports the accesses to the admin port as security events, in a bounded number of lines.

Prometheus reads the metrics several times a minute, for ever. So one line an hour stands for the equal
accesses of an address. A rejected request is rare, or it is a flood: one line a second.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, final

from togetherchat_server.domain.audit import AuditEvent, emit
from togetherchat_server.telemetry.repeat_limiter import RepeatLimiter

REPEAT_S: Final = 3600.0
ACCESSES_MAX: Final = 1024
"""Equal accesses that are remembered."""
REJECTED: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.MISDIRECTED_REQUEST,
    }
)
"""Statuses of requests that are answered without a page."""
PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Pages that orchestrators request all the time. They hold nothing."""
OTHER_PATH: Final = "other"
"""Stands for every path that does not exist: it is the text of a stranger."""


@dataclass(slots=True)
class _Access:
    """What is known of equal accesses."""

    reported_s: float
    suppressed: int = 0


@final
class AdminAudit:
    """Decides which accesses are reported. The clock returns seconds, and never goes back."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accesses: dict[tuple[str, str, HTTPStatus], _Access] = {}
        self._rejections = RepeatLimiter(1, clock=clock)

    def record(self, address: str, path: str | None, status: HTTPStatus) -> None:
        """Report an access, unless equal ones were reported lately. `path` is None if it does not exist."""
        if status in REJECTED:
            suppressed = self._rejections.admit((address, status))
        elif path in PROBES:
            return
        else:
            suppressed = self._admit((address, path or OTHER_PATH, status))
        if suppressed is not None:
            emit(
                AuditEvent.ADMIN_ACCESS,
                client_address=address,
                path=path or OTHER_PATH,
                http_status=int(status),
                suppressed=suppressed or "",  # 0 is left out
            )

    def _admit(self, kind: tuple[str, str, HTTPStatus]) -> int | None:
        """Return how many equal accesses were not reported since the last that was; None: nor is this one."""
        now_s = self._clock()
        access = self._accesses.get(kind)
        if access is not None and now_s - access.reported_s < REPEAT_S:
            access.suppressed += 1
            return None
        # Moved to the end: the first one is that whose line is the oldest.
        self._accesses.pop(kind, None)
        if len(self._accesses) >= ACCESSES_MAX:
            del self._accesses[next(iter(self._accesses))]
        self._accesses[kind] = _Access(reported_s=now_s)
        return 0 if access is None else access.suppressed
