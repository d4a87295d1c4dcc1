#!/opt/togetherchat/bin/python -IS
"""Health check of the image: exits with 0 when the server in this container accepts calls.

Requests `/readyz` from the admin listener, whose address is in TOGETHERCHAT_ADMIN_LISTEN. The script imports
only `socket`, without `site`, because it runs every ten seconds. The gRPC library alone takes twenty times
as long to load.
"""

import os
import socket
import sys

TIMEOUT_S = 2.0
REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ready(address: str) -> bool:
    """Whether the admin listener at HOST:PORT returns 200."""
    host, _, port = address.rpartition(":")
    # Where the container has no IPv6, `[::]` is every IPv4 address.
    wildcards = {"0.0.0.0": ("127.0.0.1",), "[::]": ("::1", "127.0.0.1"), "": ("127.0.0.1",)}
    for name in wildcards.get(host, (host.strip("[]"),)):
        try:
            with socket.create_connection((name, int(port)), timeout=TIMEOUT_S) as connection:
                connection.sendall(REQUEST)
                return b" 200 " in connection.recv(64)
        except (OSError, ValueError):
            continue
    return False


if __name__ == "__main__":
    sys.exit(0 if ready(os.environ.get("TOGETHERCHAT_ADMIN_LISTEN", "127.0.0.1:9464")) else 1)
