"""Takes a worker's listening sockets out of service while its connections go on.

gRPC tells its callers to leave (GOAWAY) before its own sockets are closed. A caller that comes
back within these milliseconds may be given to a closing socket by the kernel, is reset, and
fails its calls until it tries again a second later (grpcio 1.85 on a busy machine: once in some
300 reconnections). So the sockets are shut down first, which Linux takes for "listens no more".
gRPC gives nobody its sockets: they are found among the open files of the process.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

OPEN_FILES: Final = Path("/proc/self/fd")


def stop_listening(port: int) -> int:
    """Accept no more connections on this port, in this process; how many sockets that were."""
    stopped = 0
    for entry in OPEN_FILES.iterdir():
        # One that is closed meanwhile, by a thread of gRPC's, is no listening socket.
        with suppress(OSError):
            stopped += entry.is_socket() and _stop(int(entry.name), port)
    return stopped


def _stop(number: int, port: int) -> bool:
    with socket.socket(fileno=os.dup(number)) as copy:
        listens = _listens_on(copy, port)
        if listens:
            copy.shutdown(socket.SHUT_RD)
    return listens


def _listens_on(found: socket.socket, port: int) -> bool:
    if found.family not in {socket.AF_INET, socket.AF_INET6} or found.type != socket.SOCK_STREAM:
        return False
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(listens) and found.getsockname()[1] == port
