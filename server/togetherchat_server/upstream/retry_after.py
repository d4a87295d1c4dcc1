"""How long an answer's headers ask to wait.

Owns the reading of `retry-after-ms`, `retry-after` and `x-ratelimit-reset`. Knows nothing
of policy: no jitter, no decision whether to wait at all, and no cap but that of sense.
"""

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import UTC

_NUMBER = re.compile(r"[0-9]{1,32}(?:\.[0-9]{0,32})?")
_DATE_CHARACTERS_MAX = 64

WAIT_S_MAX = 1e10
"""317 years. Beyond it is noise, which the messages that carry a wait further could not hold."""


def retry_after_s(headers: Mapping[str, str], *, now_wall_s: float) -> float | None:
    """Seconds to wait, from the first of three headers that makes sense; None without one.

    In order: `retry-after-ms`; `retry-after` as seconds (whole or not) or as an HTTP date
    (RFC 9110, 10.2.3); `x-ratelimit-reset` in seconds, which Together sends with 429. A date
    is read against the answer's own `date`, so that a wrong clock on either side does no
    harm. Negative, past, unreadable and senseless values are ignored. Keys of `headers` are
    lower case.
    """
    waits = (
        _number(headers.get("retry-after-ms", ""), in_a_second=1000),
        _number(headers.get("retry-after", "")),
        _until_date(headers, now_wall_s=now_wall_s),
        _number(headers.get("x-ratelimit-reset", "")),
    )
    return next((wait_s for wait_s in waits if wait_s is not None and wait_s <= WAIT_S_MAX), None)


def _number(text: str, *, in_a_second: int = 1) -> float | None:
    text = text.strip()
    return float(text) / in_a_second if _NUMBER.fullmatch(text) else None


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
