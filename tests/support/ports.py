"""Ports that are known before a process listens there, and reserved until then."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def reserved_address() -> Iterator[str]:
    """An address for a process that cannot report its port; use port 0 if it can.

    Linux lets a second socket bind and listen beside the one that holds the port, if both set SO_REUSEADDR,
    and does not give the port to a socket that binds to port 0.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"
