#!/opt/togetherchat/bin/python -IS
"""The image's health check: whether the server in this container wants calls.

Asks `/readyz` on the admin port, where TOGETHERCHAT_ADMIN_LISTEN says it is. Imports a socket and
nothing else, without `site`: it runs every ten seconds for as long as the container lives,
and the gRPC library alone takes twenty times as long to load.
"""

import os
import socket
import sys

ASK_S = 2.0
QUESTION = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ready(address: str) -> bool:
    """Ask the admin port at HOST:PORT."""
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1", "": "127.0.0.1"}.get(host, host.strip("[]"))
    try:
        with socket.create_connection((host, int(port)), timeout=ASK_S) as connection:
            connection.sendall(QUESTION)
            return b" 200 " in connection.recv(64)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(0 if ready(os.environ.get("TOGETHERCHAT_ADMIN_LISTEN", "127.0.0.1:9464")) else 1)
