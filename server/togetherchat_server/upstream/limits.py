"""Bounds on requests to the upstream, in seconds and bytes."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """Limits of `UpstreamClient` and `ConnectionPool`. The only timeout is that of connecting."""

    connect_timeout_s: float = 5.0
    """Covers name resolution, TCP and the TLS handshake together."""
    max_response_bytes: int = 16 * MIB
    """Largest response that is not streamed."""
    max_error_body_bytes: int = 64 * 1024
    """How much is read of a response with an error status."""
    max_stream_bytes: int = 32 * MIB
    connections_max: int = 1024
    """Maximum of requests in flight, and so of active connections. Further ones are rejected."""
    keepalive_s: float = 15.0
    """How long an idle connection is kept; less than the upstream keeps it."""
    max_connection_age_s: float = 300.0
    """A connection older than this is not reused, so that changed addresses are followed."""
