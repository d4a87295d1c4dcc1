"""The health protocol without its package, held against the package."""

import pytest
from grpc_health.v1 import health_pb2

from togetherchat_client import ServingStatus
from togetherchat_client.health import decode_response, encode_request


@pytest.mark.parametrize("service", ["", "togetherchat.v1.ChatService", "ü" * 200])
def test_a_request_is_the_one_of_the_package(service):
    """Byte for byte."""
    assert health_pb2.HealthCheckRequest(service=service).SerializeToString() == encode_request(service)


@pytest.mark.parametrize("status", list(ServingStatus))
def test_a_response_is_read_as_the_package_writes_it(status):
    """All four of its values, the zero that is not on the wire included."""
    blob = health_pb2.HealthCheckResponse(status=status.value).SerializeToString()
    assert status is decode_response(blob)


def test_the_names_are_those_of_the_package():
    """A value that is added there should be added here."""
    assert dict(health_pb2.HealthCheckResponse.ServingStatus.items()) == {
        status.name: status.value for status in ServingStatus
    }


@pytest.mark.parametrize("blob", [b"\x08\x63", b"\x12\x02hi"])
def test_what_a_later_version_says_is_unknown(blob):
    """A new status, or a field that we do not know."""
    assert ServingStatus.UNKNOWN is decode_response(blob)
