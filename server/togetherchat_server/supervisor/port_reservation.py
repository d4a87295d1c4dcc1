"""The port that the workers share: the supervisor reserves it while it runs.

Workers listen with SO_REUSEPORT, and the kernel assigns each new connection to one of them. The same
option would let a second server of this user join unnoticed and receive half of the connections. So
the address is first bound without the option, which fails while anyone listens there. Then a socket
with the option, which never listens, holds it. Port 0 becomes a number that does not change, and the
first bind of another supervisor fails. (Linux; each step was tried on 6.18.)
"""

import socket
import sys
from typing import Final, final

from togetherchat_server.config.listen_address import ListenAddress, bound_sockets


@final
class PortReservation:
    """Reserves one HOST:PORT, at every address of the host.

    Raises:
        OSError: the address is in use, or is not an address of this machine. The message is one line.
    """

    def __init__(self, address: str) -> None:
        if sys.platform != "linux":
            raise OSError("--workers above 1 needs Linux, which distributes connections between processes")
        where = ListenAddress.parse(address)
        if where.port:
            for probe in bound_sockets(where):
                with probe:
                    probe.listen()
        self._sockets = bound_sockets(where, share_port=True)
        for holder in self._sockets:
            # With the option left on, another supervisor's probe would succeed until a worker listens.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self.address: Final = str(where.with_port(self._sockets[0].getsockname()[1]))

    def close(self) -> None:
        """Release the port."""
        for holder in self._sockets:
            holder.close()
