"""Speaks grpc.health.v1.Health/Check without the health package.

The base install has no stubs for it, and needs none: a HealthCheckRequest is one string in
field 1 and a HealthCheckResponse one enum in field 1, which on the wire are exactly
google.protobuf.StringValue and Int32Value. Unknown fields of a later version are skipped
by the parser. A test holds both against the real messages.
"""

import enum
from typing import Final

from google.protobuf import wrappers_pb2 as wrappers

CHECK: Final = "/grpc.health.v1.Health/Check"
CHAT_SERVICE: Final = "togetherchat.v1.ChatService"


class ServingStatus(enum.IntEnum):
    """Whether a service takes calls."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def encode_request(service: str) -> bytes:
    """A HealthCheckRequest for `service`; empty asks about the server as a whole."""
    return wrappers.StringValue(value=service).SerializeToString()


def decode_response(blob: bytes) -> ServingStatus:
    """The status in a HealthCheckResponse; a value of a later version is UNKNOWN."""
    try:
        return ServingStatus(wrappers.Int32Value.FromString(blob).value)
    except ValueError:
        return ServingStatus.UNKNOWN
