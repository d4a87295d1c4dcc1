"""The attacks, what each must end in, and with which settings the victim runs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from attack import body_attacks, grpc_attacks, http_attacks
from attack.target import Target


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack. The bounds of the victim's memory and of its probes are the same for all."""

    run: Callable[[Target], Awaitable[None]]
    name: str
    listener: str
    expected: str
    limit: str = ""
    """What gRPC's core prevents in a process of Python, and `SECURITY.md` says. Else empty: every bound holds."""


def _attack(
    run: Callable[[Target], Awaitable[None]], listener: str, expected: str, *, limit: str = ""
) -> Attack:
    protocol = listener.partition(",")[0]
    name = f"{protocol}: {run.__name__.replace('_', ' ')}"
    return Attack(run=run, name=name, listener=listener, expected=expected, limit=limit)


ATTACKS = (
    _attack(grpc_attacks.gzip_bombs_to_health, "gRPC", "UNIMPLEMENTED (12)"),
    _attack(grpc_attacks.gzip_bombs_to_reflection, "gRPC", "UNIMPLEMENTED (12)"),
    _attack(grpc_attacks.gzip_bombs_to_complete, "gRPC", "UNIMPLEMENTED (12)"),
    _attack(grpc_attacks.gzip_bombs_with_a_key, "gRPC", "UNIMPLEMENTED (12)"),
    _attack(grpc_attacks.large_messages_to_health, "gRPC", "INVALID_ARGUMENT (3) or UNAVAILABLE (14)"),
    _attack(grpc_attacks.large_messages_to_reflection, "gRPC", "end of the stream"),
    _attack(grpc_attacks.large_messages_to_complete, "gRPC", "UNAUTHENTICATED (16), unread"),
    _attack(
        grpc_attacks.header_references,
        "gRPC",
        "RESOURCE_EXHAUSTED, or the connection ends",
        limit="headers are bounded once the settings are acknowledged",
    ),
    _attack(grpc_attacks.watches, "gRPC", "UNIMPLEMENTED (12) beyond the bound of an address"),
    _attack(grpc_attacks.calls_without_a_message, "gRPC", "UNAVAILABLE (14)"),
    _attack(grpc_attacks.rapid_reset, "gRPC", "callers are served"),
    _attack(grpc_attacks.pings_and_settings, "gRPC", "GOAWAY"),
    _attack(grpc_attacks.idle_connections, "gRPC", "closed after the handshake timeout"),
    _attack(grpc_attacks.connections_that_shake_hands, "gRPC", "bounded"),
    _attack(
        grpc_attacks.bad_keys,
        "gRPC",
        "UNAUTHENTICATED (16), then RESOURCE_EXHAUSTED (8)",
        limit="beyond what the event loop can reject, the core cancels calls at random",
    ),
    _attack(http_attacks.slow_heads, "HTTP", "closed after the timeout"),
    _attack(http_attacks.slow_bodies, "HTTP", "401, unread"),
    _attack(http_attacks.slow_bodies_with_a_key, "HTTP, with a key", "408 after the timeout"),
    _attack(http_attacks.large_slow_bodies, "HTTP", "503 beyond the bound"),
    _attack(http_attacks.endless_trailers, "HTTP", "400, 401"),
    _attack(http_attacks.chunk_extensions, "HTTP", "400"),
    _attack(http_attacks.one_byte_chunks, "HTTP", "400 or 413"),
    _attack(http_attacks.pipelined_requests, "HTTP", "401"),
    _attack(http_attacks.idle_connections, "HTTP", "the longest idle ones are closed"),
    _attack(http_attacks.bad_keys, "HTTP", "401, then 429"),
    _attack(http_attacks.connections_to_admin, "admin", "the oldest ones are closed"),
    _attack(body_attacks.json, "HTTP, with a key", "400"),
    _attack(body_attacks.wire, "gRPC, with a key", "INVALID_ARGUMENT (3)"),
)
BY_NAME = {attack.name: attack for attack in ATTACKS}
