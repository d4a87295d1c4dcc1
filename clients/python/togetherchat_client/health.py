"""Messages of grpc.health.v1.Health/Check, without the package grpcio-health-checking.

The base install does not have the stubs of that package. A HealthCheckRequest is one string in field
1, and a HealthCheckResponse one enum in field 1. On the wire they equal google.protobuf.StringValue
and Int32Value. The parser skips unknown fields of a later version. A test compares both with the real
messages.
"""

import enum
from typing import Final

from google.protobuf import wrappers_pb2 as wrappers

HEALTH_SERVICE: Final = "grpc.health.v1.Health"
CHECK: Final = f"/{HEALTH_SERVICE}/Check"
CHAT_SERVICE: Final = "togetherchat.v1.ChatService"


class ServingStatus(enum.IntEnum):
    """Health status of a service."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def encode_request(service: str) -> bytes:
    """Return a HealthCheckRequest for `service`. Empty means the server as a whole."""
    return wrappers.StringValue(value=service).SerializeToString()


def decode_response(blob: bytes) -> ServingStatus:
    """Return the status in a HealthCheckResponse. A value of a later version becomes UNKNOWN."""
    try:
        return ServingStatus(wrappers.Int32Value.FromString(blob).value)
    except ValueError:
        return ServingStatus.UNKNOWN
