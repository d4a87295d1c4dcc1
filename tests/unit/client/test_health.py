"""Tests of the health messages, compared with the package grpcio-health-checking."""

import pytest
from grpc_health.v1 import health_pb2

from togetherchat_client import ServingStatus
from togetherchat_client.health import decode_response, encode_request


@pytest.mark.parametrize("service", ["", "togetherchat.v1.ChatService", "ü" * 200])
def test_a_request_equals_the_one_of_the_package(service):
    """The encoded request has the same bytes."""
    assert health_pb2.HealthCheckRequest(service=service).SerializeToString() == encode_request(service)


@pytest.mark.parametrize("status", list(ServingStatus))
def test_every_status_of_the_package_is_decoded(status):
    """All four values, including zero, which is not on the wire."""
    blob = health_pb2.HealthCheckResponse(status=status.value).SerializeToString()
    assert status is decode_response(blob)


def test_the_names_are_those_of_the_package():
    """A value that the package adds must be added to ServingStatus."""
    assert dict(health_pb2.HealthCheckResponse.ServingStatus.items()) == {
        status.name: status.value for status in ServingStatus
    }


@pytest.mark.parametrize("blob", [b"\x08\x63", b"\x12\x02hi"])
def test_a_status_of_a_later_version_is_unknown(blob):
    """A new enum value, and a message with an unknown field only."""
    assert ServingStatus.UNKNOWN is decode_response(blob)
