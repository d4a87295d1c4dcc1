"""Ports that a test must know before a process listens there. Each is held, so that no other process gets it."""

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
    """An address for a process that cannot tell which port it was given; port 0 is better where it can.

    Linux lets a second socket bind and listen beside the one that holds the port, if both set SO_REUSEADDR,
    and gives the port to nobody who asks for a free one.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"
