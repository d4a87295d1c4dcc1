"""What Together's answers say of the limits on the key: which headers those are.

Owns their names and what is taken of them. Means nothing by their values: they are handed on as
they came, to the caller's trailers and into the call's record.

Sources: the page `rate-limits` at docs.together.ai, which named nine headers in January 2026
(requests and tokens, each with a limit and what remains, plain and `-dynamic`, and a reset in
seconds) and later promises `x-ratelimit-reset` alone, on a 429; recorded answers of 2024 with the
first three. So any of them may be missing, and there may be others of their kind.
"""

import re
from collections.abc import Mapping
from typing import Final

RATE_LIMITS_MAX: Final = 16

# A gRPC trailer has a narrower alphabet than an HTTP header, and a name in -bin wants bytes: one
# foreign name would cost the caller its whole answer.
_NAME: Final = re.compile(r"x-(?:rate|token)limit-[a-z-]{1,40}(?<!-bin)")
_VALUE: Final = re.compile(r"[\x21-\x7e]{1,64}")


def from_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The rate-limit headers among `headers`, whose names are in lower case; at most 16."""
    told = (
        (name, value) for name, value in headers.items() if _NAME.fullmatch(name) and _VALUE.fullmatch(value)
    )
    return tuple(told)[:RATE_LIMITS_MAX]
