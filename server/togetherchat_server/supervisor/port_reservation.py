"""The port that the workers share: the supervisor reserves it while it runs.

Workers listen with SO_REUSEPORT, and the kernel assigns each new connection to one of them. The same
option would let a second server of this user join unnoticed and receive half of the connections. So
the address is first bound without the option, which fails while anyone listens there. Then a socket
with the option, which never listens, holds it. Port 0 becomes a number that does not change, and the
first bind of another supervisor fails. (Linux; each step was tried on 6.18.)
"""

import errno
import socket
import sys
from typing import Final, final

# A name such as localhost may have an address of a family that this machine does not support.
UNSUPPORTED: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@final
class PortReservation:
    """Reserves one HOST:PORT, at every address of the host.

    Raises:
        OSError: the address is in use, or is not an address of this machine. The message is one line.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._sockets: list[socket.socket] = []
        self._port = int(port)
        try:
            self._reserve(host)
        except BaseException:
            self.close()
            raise
        self.address: Final = f"{host}:{self._port}"

    def close(self) -> None:
        """Release the port."""
        for holder in self._sockets:
            holder.close()

    def _reserve(self, host: str) -> None:
        if sys.platform != "linux":
            raise OSError("--workers above 1 needs Linux, which distributes connections between processes")
        problem: OSError | None = None
        for family, ip in _resolve(host, self._port):
            try:
                self._reserve_one(family, ip)
            except OSError as exc:
                if exc.errno not in UNSUPPORTED:
                    raise OSError(exc.errno, f"{host}:{self._port}: {exc.strerror}") from exc
                problem = exc
        if not self._sockets:
            raise OSError(f"{host}:{self._port}: {problem.strerror if problem else 'no such address'}")

    def _reserve_one(self, family: int, ip: str) -> None:
        if self._port:
            with _bound_socket(family, ip, self._port, reuse_port=False) as probe:
                probe.listen()
        holder = _bound_socket(family, ip, self._port, reuse_port=True)
        # With the option left on, another supervisor's probe would succeed until a worker listens.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._sockets.append(holder)
        self._port = holder.getsockname()[1]


def _resolve(host: str, port: int) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as exc:
        raise OSError(f"{host}: {exc.strerror}") from exc
    return [(family, str(sockaddr[0])) for family, _, _, _, sockaddr in found]


def _bound_socket(family: int, ip: str, port: int, *, reuse_port: bool) -> socket.socket:
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections in TIME_WAIT, left by a server that stopped a minute ago, must not block the bind.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
        holder.bind((ip, port))
    except BaseException:
        holder.close()
        raise
    return holder
