"""Reads from response headers the delay that the provider requests before a retry.

Owns the reading of `retry-after-ms`, `retry-after` and `x-ratelimit-reset`. Contains no policy: no
jitter, no decision whether to wait, and no cap except on absurd values.
"""

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import UTC

_NUMBER = re.compile(r"[0-9]{1,32}(?:\.[0-9]{0,32})?")
_DATE_CHARACTERS_MAX = 64

RETRY_AFTER_S_MAX = 1e10
"""317 years. A larger value is noise, and would not fit into the messages that report a delay."""


def retry_after_s(headers: Mapping[str, str], *, now_wall_s: float) -> float | None:
    """Seconds to wait, from the first of three headers with a valid value; None without one.

    In order: `retry-after-ms`; `retry-after` as seconds (whole or not) or as an HTTP date
    (RFC 9110, 10.2.3); `x-ratelimit-reset` in seconds, which Together sends with 429. A date is
    compared to the response's own `date`, so that a wrong clock on either side does no harm.
    Negative, past, unreadable and absurd values are ignored. Keys of `headers` are lower case.
    """
    delays = (
        _number(headers.get("retry-after-ms", ""), units_per_s=1000),
        _number(headers.get("retry-after", "")),
        _until_date(headers, now_wall_s=now_wall_s),
        _number(headers.get("x-ratelimit-reset", "")),
    )
    return next((delay_s for delay_s in delays if delay_s is not None and delay_s <= RETRY_AFTER_S_MAX), None)


def _number(text: str, *, units_per_s: int = 1) -> float | None:
    text = text.strip()
    return float(text) / units_per_s if _NUMBER.fullmatch(text) else None


def _until_date(headers: Mapping[str, str], *, now_wall_s: float) -> float | None:
    retry_at_s = _date(headers.get("retry-after", ""))
    if retry_at_s is None:
        return None
    responded_s = _date(headers.get("date", ""))
    delay_s = retry_at_s - (now_wall_s if responded_s is None else responded_s)
    return delay_s if delay_s >= 0 and math.isfinite(delay_s) else None


def _date(text: str) -> float | None:
    """Return an HTTP date as seconds since 1970. One without a zone is in UTC, as all HTTP dates are."""
    if not text or len(text) > _DATE_CHARACTERS_MAX:
        return None
    try:
        date = email.utils.parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
