"""The data of a call as a frontend reads it from its protocol, before anything is validated."""

from collections.abc import Callable
from dataclasses import dataclass

from togetherchat_server.domain.identity import Scope
from togetherchat_server.domain.reasons import ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The protocol of a frontend: its name in call records, and the name of its status for each error."""

    name: str
    status_name: Callable[[ServiceError], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """The metadata of a call. Strings come from the caller and are not validated."""

    protocol: Protocol
    method: str
    scope: Scope = Scope.CHAT
    """The scope that the method needs."""
    request_id: str = ""
    authorization: str = ""
    together_key: str = ""
    """`x-together-api-key`: the caller's provider key, if `authorization` holds a key of this service."""
    forwarded_for: str = ""
    """`x-forwarded-for`: believed if the peer is a trusted proxy."""
    adapt_reasoning_effort: str = ""
    """`x-adapt-reasoning-effort`: `false` sends `reasoning_effort` unchanged."""
    together_debug: str = ""
    """`x-together-debug`: `1` requests the provider's headers for debugging."""
    priority: str = ""
    """`x-priority`: `low`, `normal` or `high`, among the calls of the caller's tenant."""
    traceparent: str = ""
    tracestate: str = ""
    previous_attempts: str = ""
