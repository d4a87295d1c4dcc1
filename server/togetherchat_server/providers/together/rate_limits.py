"""Selects the rate-limit headers of Together's responses.

Owns the names of the headers. Their values are not interpreted: they are passed on unchanged to the
caller's trailers and to the call record.

Sources: the page `rate-limits` at docs.together.ai, which named nine headers in January 2026
(requests and tokens, each with a limit and what remains, plain and `-dynamic`, and a reset in
seconds) and later promises `x-ratelimit-reset` alone, on a 429; recorded responses of 2024 with the
first three. So any of them may be missing, and there may be others of their kind.
"""

import re
from collections.abc import Mapping
from typing import Final

RATE_LIMITS_MAX: Final = 16

# A gRPC trailer has a narrower alphabet than an HTTP header, and a name in -bin needs bytes: one
# invalid name would cost the caller the whole response.
_NAME: Final = re.compile(r"x-(?:rate|token)limit-[a-z-]{1,40}(?<!-bin)")
_VALUE: Final = re.compile(r"[\x21-\x7e]{1,64}")


def from_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the rate-limit headers among `headers`, whose names are in lower case; at most 16."""
    selected = (
        (name, value) for name, value in headers.items() if _NAME.fullmatch(name) and _VALUE.fullmatch(value)
    )
    return tuple(selected)[:RATE_LIMITS_MAX]
