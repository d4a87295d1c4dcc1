"""The bound on request bodies that are being received."""

import pytest

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.http.unread_bodies import UnreadBodies


def rejected(body, size):
    with pytest.raises(ServiceError) as caught:
        body.add(size)
    return caught.value.reason is Reason.OVERLOADED


def test_one_address_may_use_half():
    """Another address still has room, and a body that ends makes room."""
    bodies = UnreadBodies(bytes_max=100)
    with bodies.receiving("192.0.2.1") as first, bodies.receiving("192.0.2.2") as other:
        with bodies.receiving("192.0.2.1") as second:
            first.add(30)
            second.add(20)
            assert rejected(first, 1)
            other.add(49)
        first.add(20)


def test_all_addresses_together_are_bounded():
    """A hundred addresses cannot fill the memory either."""
    bodies = UnreadBodies(bytes_max=100)
    with (
        bodies.receiving("192.0.2.1") as one,
        bodies.receiving("192.0.2.2") as two,
        bodies.receiving("192.0.2.3") as three,
    ):
        one.add(50)
        two.add(50)
        assert rejected(three, 1)


def test_an_ipv6_network_is_one_address():
    """A customer has a whole network of addresses."""
    bodies = UnreadBodies(bytes_max=100)
    with bodies.receiving("2001:db8::1") as one, bodies.receiving("2001:db8::2") as two:
        one.add(50)
        assert rejected(two, 1)


def test_nothing_remains():
    """When all bodies have ended, as many bytes are free as at the start."""
    bodies = UnreadBodies(bytes_max=100)
    for _ in range(10):
        with bodies.receiving("192.0.2.1") as body:
            body.add(50)
            assert rejected(body, 1)
