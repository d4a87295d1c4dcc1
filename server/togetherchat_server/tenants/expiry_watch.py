"""Warns before a key that is in use expires.

Only keys that were used within a day count: one that was replaced may expire without a warning.
"""

import logging
from datetime import UTC, datetime
from typing import Final, final

from togetherchat_server.domain.audit import AuditEvent, emit
from togetherchat_server.domain.bounded import remember

DAY_S: Final = 86_400.0
WARN_BEFORE_S: Final = 14 * DAY_S
KEYS_MAX: Final = 4096

_log = logging.getLogger(__name__)


@final
class ExpiryWatch:
    """The keys of the last day that expire. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[float, float]] = {}
        self._warned_s: dict[str, float] = {}

    def used(self, key_id: str, tenant: str, expires_s: float, now_s: float) -> None:
        """Record that a call came with a key that expires. Logs a warning a day in its last two weeks."""
        remember(self._used, key_id, (expires_s, now_s), at_most=KEYS_MAX)
        if expires_s - now_s < WARN_BEFORE_S and now_s - self._warned_s.get(key_id, -DAY_S) >= DAY_S:
            remember(self._warned_s, key_id, now_s, at_most=KEYS_MAX)
            days = (expires_s - now_s) / DAY_S
            _log.warning("key %s of tenant %s expires in %.1f days and is in use", key_id, tenant, days)
            emit(AuditEvent.KEY_EXPIRING, key_id=key_id, tenant=tenant, expires=_iso(expires_s))

    def earliest_s(self, now_s: float) -> float:
        """Return when the first of the keys expires; infinity if none does."""
        recent = (expires_s for expires_s, used_s in self._used.values() if now_s - used_s < DAY_S)
        return min(recent, default=float("inf"))


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")
