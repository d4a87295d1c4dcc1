"""Reads the metadata of an RPC into an `IncomingCall`."""

from collections.abc import Iterable
from typing import Final

from togetherchat_server.calls.session import IncomingCall

PROTOCOL: Final = "grpc"

_HEADERS: Final = {
    "x-request-id": "request_id",
    "authorization": "authorization",
    "x-together-api-key": "together_key",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "grpc-previous-rpc-attempts": "previous_attempts",
}


def incoming_call(
    method: str, metadata: Iterable[tuple[str, str | bytes]] | None, seconds_left: float | None = None
) -> IncomingCall:
    """Translate the metadata of an RPC. `seconds_left` is None while it is not known."""
    found: dict[str, str] = {}
    for key, value in metadata or ():
        name = _HEADERS.get(key)
        if name is not None and isinstance(value, str):
            # A header that is sent twice becomes a value that no check accepts.
            found[name] = f"{found[name]}, {value}" if name in found else value
    return IncomingCall(protocol=PROTOCOL, method=method, seconds_left=seconds_left, **found)
