"""The bounds of the way to the upstream, in seconds and bytes."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """Read by `Transport` and `Engine`. There is no limit of time but for connecting: who asks, times."""

    connect_timeout_s: float = 5.0
    """For the name, TCP and the TLS handshake together."""
    max_response_bytes: int = 16 * MIB
    """Of a whole answer."""
    max_error_body_bytes: int = 64 * 1024
    """Of an answer whose status says that it failed; the rest is not read."""
    max_stream_bytes: int = 32 * MIB
    connections_max: int = 1024
    """Requests in flight, hence connections in use. One more is refused at once."""
    keepalive_s: float = 15.0
    """How long an unused connection is kept; less than the upstream keeps it."""
    max_connection_age_s: float = 300.0
    """A connection older than this takes no further request, so that a change of addresses is followed."""
