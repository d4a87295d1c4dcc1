"""What a call's trailers say beside the answer: ids, who answered, rate limits.

Owns the names of the trailers. Knows nothing of failures; `details.py` does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Trailers: TypeAlias = Iterable[tuple[str, str | bytes]]

REQUEST_ID = "x-request-id"
UPSTREAM_REQUEST_ID = "x-upstream-request-id"
UPSTREAM = "x-upstream"
RATE_LIMIT_PREFIXES = ("x-ratelimit", "x-tokenlimit")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """The facts of one finished call."""

    request_id: str
    """The id of the call: the one that was sent, unless the service replaced it."""
    upstream_request_id: str = ""
    """The provider's own id, for its support. Empty where it gave none."""
    upstream: str = ""
    """Who answered: `together` or `sandbox`. Empty where nobody was asked."""
    rate_limits: Mapping[str, str] = field(default_factory=dict[str, str])
    """The provider's rate-limit headers, lower case."""
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    """Every trailer, as it came."""

    @classmethod
    def from_trailers(cls, trailers: Trailers, *, request_id: str) -> "CallInfo":
        """Read `trailers`; `request_id` is the one that was sent."""
        pairs = tuple((key, value) for key, value in trailers)
        texts = {key: value for key, value in pairs if isinstance(value, str)}
        return cls(
            request_id=texts.get(REQUEST_ID, request_id),
            upstream_request_id=texts.get(UPSTREAM_REQUEST_ID, ""),
            upstream=texts.get(UPSTREAM, ""),
            rate_limits={key: value for key, value in texts.items() if key.startswith(RATE_LIMIT_PREFIXES)},
            metadata=pairs,
        )
