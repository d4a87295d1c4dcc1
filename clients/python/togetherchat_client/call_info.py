"""Reads the trailers of a call that do not describe an error: ids, the upstream, rate limits.

Owns the names of these trailers. `details.py` reads the trailers of errors.
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
    """Ids, rate limits and trailers of a finished call."""

    request_id: str
    """Id of the call. The service may have replaced the id that was sent."""
    upstream_request_id: str = ""
    """The provider's id of the request, for its support. Empty when the provider sent none."""
    upstream: str = ""
    """The upstream that served the call: `together` or `sandbox`. Empty when no request was sent upstream."""
    rate_limits: Mapping[str, str] = field(default_factory=dict[str, str])
    """The provider's rate-limit headers; names in lower case."""
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    """All trailers, unchanged."""

    @classmethod
    def from_trailers(cls, trailers: Trailers, *, request_id: str) -> "CallInfo":
        """Read `trailers`. `request_id` is the id that was sent."""
        pairs = tuple((key, value) for key, value in trailers)
        texts = {key: value for key, value in pairs if isinstance(value, str)}
        return cls(
            request_id=texts.get(REQUEST_ID, request_id),
            upstream_request_id=texts.get(UPSTREAM_REQUEST_ID, ""),
            upstream=texts.get(UPSTREAM, ""),
            rate_limits={key: value for key, value in texts.items() if key.startswith(RATE_LIMIT_PREFIXES)},
            metadata=pairs,
        )
