"""Parsing gRPC's notation of a peer."""

import pytest

from togetherchat_server.frontends.grpc.peer import host_of


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.1:50051", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:50051", "2001:db8::1"),
        ("ipv6:[::1]:50051", "::1"),
        ("unix:/run/socket", "/run/socket"),
        ("unix:", ""),
        ("unknown", ""),
    ],
)
def test_a_host_has_no_port(peer, host):
    """The port is removed for each address family that gRPC names."""
    assert host == host_of(peer)
