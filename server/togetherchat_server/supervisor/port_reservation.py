"""The port that workers share, held by the supervisor while it lives.

Workers listen with SO_REUSEPORT, and the kernel gives each new connection to one of them. The
same option lets a stranger in unnoticed, a second server of this user that takes half of the
calls. So the address is first bound without it, which fails while anyone is there, and then
held by a socket with it that never listens: port 0 becomes a number that stays the same, and
the next supervisor's first bind fails. (Linux; each step was tried on 6.18.)
"""

import errno
import socket
import sys
from typing import Final, final

# A name such as localhost has an address of a family that this machine may not speak.
NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@final
class PortReservation:
    """Holds one HOST:PORT, every address of the host.

    Raises:
        OSError: somebody else is there, or the address is not ours. Says so in one line.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._held: list[socket.socket] = []
        self._port = int(port)
        try:
            self._hold(host)
        except BaseException:
            self.close()
            raise
        self.address: Final = f"{host}:{self._port}"

    def close(self) -> None:
        for holder in self._held:
            holder.close()

    def _hold(self, host: str) -> None:
        if sys.platform != "linux":
            raise OSError("several workers need Linux, which spreads connections over them")
        problem: OSError | None = None
        for family, slot in _places(host, self._port):
            try:
                self._hold_one(family, slot)
            except OSError as exc:
                if exc.errno not in NOT_HERE:
                    raise OSError(exc.errno, f"{host}:{self._port}: {exc.strerror}") from exc
                problem = exc
        if not self._held:
            raise OSError(f"{host}:{self._port}: {problem.strerror if problem else 'no such address'}")

    def _hold_one(self, family: int, slot: str) -> None:
        if self._port:
            with _bound(family, slot, self._port, shared=False) as probe:
                probe.listen()
        holder = _bound(family, slot, self._port, shared=True)
        # Left on, it would let the next supervisor's probe in as long as no worker listens.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._held.append(holder)
        self._port = holder.getsockname()[1]


def _places(host: str, port: int) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as exc:
        raise OSError(f"{host}: {exc.strerror}") from exc
    return [(family, str(slot[0])) for family, _, _, _, slot in found]


def _bound(family: int, slot: str, port: int, *, shared: bool) -> socket.socket:
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of a server that stopped a minute ago are no server.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        holder.bind((slot, port))
    except BaseException:
        holder.close()
        raise
    return holder
