"""The state of an API key: whether it is accepted, and until when. Times are seconds since 1970."""

import enum

from togetherchat_server.tenants.expiry_watch import WARN_BEFORE_S
from togetherchat_server.tenants.key_file import KeyLine, seconds_of


class KeyState(enum.StrEnum):
    """Whether the service accepts a key."""

    VALID = "valid"
    EXPIRING = "expiring"
    """Accepted, but for less than `WARN_BEFORE_S`."""
    EXPIRED = "expired"
    REVOKED = "revoked"


def expires_s(line: KeyLine, *, max_age_s: float | None) -> float | None:
    """Return when a key stops being accepted: at its expiry or its greatest age; None: never."""
    times = [seconds_of(line.expires)] if line.expires else []
    if max_age_s is not None:
        # A key without a time of creation was written by hand: it is too old.
        times.append((seconds_of(line.created) if line.created else 0.0) + max_age_s)
    return min(times, default=None)


def state_of(line: KeyLine, *, now_s: float, max_age_s: float | None) -> KeyState:
    if line.revoked:
        return KeyState.REVOKED
    end_s = expires_s(line, max_age_s=max_age_s)
    if end_s is None:
        return KeyState.VALID
    if end_s <= now_s:
        return KeyState.EXPIRED
    return KeyState.EXPIRING if end_s - now_s < WARN_BEFORE_S else KeyState.VALID
