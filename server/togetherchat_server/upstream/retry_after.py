"""How long an answer's headers ask to wait.

Owns the reading of `retry-after-ms`, `retry-after` and `x-ratelimit-reset`. Knows nothing
of policy: no cap, no jitter, no decision whether to wait at all.
"""

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import UTC

_NUMBER = re.compile(r"[0-9]{1,32}(?:\.[0-9]{0,32})?")
_DATE_CHARACTERS_MAX = 64


def retry_after_s(headers: Mapping[str, str], *, now_wall_s: float) -> float | None:
    """Seconds to wait, from the first of three headers that makes sense; None without one.

    In order: `retry-after-ms`; `retry-after` as seconds (whole or not) or as an HTTP date
    (RFC 9110, 10.2.3); `x-ratelimit-reset` in seconds, which Together sends with 429. A date
    is read against the answer's own `date`, so that a wrong clock on either side does no
    harm. Negative, past and unreadable values are ignored. Keys of `headers` are lower case.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    waits = (
        _number(headers.get("retry-after", "")),
        _until_date(headers, now_wall_s=now_wall_s),
        _number(headers.get("x-ratelimit-reset", "")),
    )
    return next((wait_s for wait_s in waits if wait_s is not None), None)


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _until_date(headers: Mapping[str, str], *, now_wall_s: float) -> float | None:
    then_s = _date(headers.get("retry-after", ""))
    if then_s is None:
        return None
    answered_s = _date(headers.get("date", ""))
    wait_s = then_s - (now_wall_s if answered_s is None else answered_s)
    return wait_s if wait_s >= 0 and math.isfinite(wait_s) else None


def _date(text: str) -> float | None:
    """An HTTP date as seconds since 1970. One without a zone is in UTC, as all HTTP dates are."""
    if not text or len(text) > _DATE_CHARACTERS_MAX:
        return None
    try:
        date = email.utils.parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
