"""Shuts down a worker's listening sockets while its connections stay open.

gRPC sends GOAWAY before it closes its own listening sockets. In these milliseconds the kernel may
assign a client that reconnects to a socket that is about to close. The client is reset, and fails its
calls until it reconnects a second later (grpcio 1.85 on a busy machine: once in some 300
reconnections). So the sockets are shut down first; Linux then assigns them no more connections. gRPC
does not expose its sockets: they are found among the open files of the process.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

OPEN_FILES: Final = Path("/proc/self/fd")


def stop_listening(port: int) -> int:
    """Accept no more connections on this port in this process. Return the number of sockets found."""
    stopped = 0
    for entry in OPEN_FILES.iterdir():
        # A thread of gRPC may close a descriptor meanwhile.
        with suppress(OSError):
            stopped += entry.is_socket() and _shut_down(int(entry.name), port)
    return stopped


def _shut_down(descriptor: int, port: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        listens = _listens_on(duplicate, port)
        if listens:
            duplicate.shutdown(socket.SHUT_RD)
    return listens


def _listens_on(found: socket.socket, port: int) -> bool:
    if found.family not in {socket.AF_INET, socket.AF_INET6} or found.type != socket.SOCK_STREAM:
        return False
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(listens) and found.getsockname()[1] == port
