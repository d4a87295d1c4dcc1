"""The clients reach this machine only."""

import socket

import pytest

from sdks.loopback_only import outside


@pytest.mark.parametrize("host", ["example.com", "192.0.2.1"])
def test_other_hosts_are_rejected_and_noted(host):
    """A look-up or a connection of another host fails, and the run would fail after it."""
    with pytest.raises(OSError, match="is not on this machine"):
        socket.create_connection((host, 9))

    assert host == outside.pop()
