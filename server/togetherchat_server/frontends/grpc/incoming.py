"""Reads the metadata of an RPC into an `IncomingCall`."""

from collections.abc import Iterable
from typing import Final

from togetherchat_server.calls.incoming import IncomingCall, Protocol
from togetherchat_server.domain.identity import Scope
from togetherchat_server.frontends.grpc.status import code_of

PROTOCOL: Final = Protocol(name="grpc", status_name=lambda error: code_of(error).name)

_HEADERS: Final = {
    "x-request-id": "request_id",
    "authorization": "authorization",
    "x-together-api-key": "together_key",
    "x-forwarded-for": "forwarded_for",
    "x-adapt-reasoning-effort": "adapt_reasoning_effort",
    "x-together-debug": "together_debug",
    "x-priority": "priority",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "grpc-previous-rpc-attempts": "previous_attempts",
}


def incoming_call(
    method: str, scope: Scope, metadata: Iterable[tuple[str, str | bytes]] | None
) -> IncomingCall:
    """Translate the metadata of an RPC whose method needs a scope."""
    found: dict[str, str] = {}
    for key, value in metadata or ():
        name = _HEADERS.get(key)
        if name is not None and isinstance(value, str):
            # A header that is sent twice becomes a value that no check accepts.
            found[name] = f"{found[name]}, {value}" if name in found else value
    return IncomingCall(protocol=PROTOCOL, method=method, scope=scope, **found)
