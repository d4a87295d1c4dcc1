"""From a name to a connected socket.

Owns how long an address is believed, and that a hundred calls ask for it once. The race between a
host's addresses is aiohappyeyeballs' (RFC 8305).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, final

import aiohappyeyeballs

FRESH_S: Final = 10.0
"""How long an answer of the system's resolver is used; it has a cache of its own, with the true times."""
NEXT_ADDRESS_S: Final = 0.25
NAMES_MAX: Final = 64

AddressInfo: TypeAlias = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]
Resolve = Callable[[str, int], Awaitable[list[AddressInfo]]]


async def _system(host: str, port: int) -> list[AddressInfo]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


@final
class Resolver:
    """Connects by name."""

    def __init__(self, resolve: Resolve | None, *, now_s: Callable[[], float]) -> None:
        self._resolve = resolve or _system
        self._now_s = now_s
        self._known: dict[tuple[str, int], tuple[float, asyncio.Future[list[AddressInfo]]]] = {}

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connected socket; small messages leave it at once.

        Raises:
            OSError: no address answered; `socket.gaierror` where there is none.
        """
        addresses = await self._find(host, port)
        return await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType]  a bare tuple
            addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, interleave=1
        )

    async def _find(self, host: str, port: int) -> list[AddressInfo]:
        known = self._known.get((host, port))
        if known is None or (known[1].done() and self._now_s() - known[0] > FRESH_S):
            if len(self._known) >= NAMES_MAX:
                self._known.clear()
            known = (self._now_s(), asyncio.ensure_future(self._resolve(host, port)))
            known[1].add_done_callback(lambda found: self._forget_failure(host, port, found))
            self._known[host, port] = known
        # A caller who leaves does not take the answer from those who wait for it too.
        return await asyncio.shield(known[1])

    def _forget_failure(self, host: str, port: int, found: "asyncio.Future[list[AddressInfo]]") -> None:
        if found.cancelled() or found.exception() is not None:
            self._known.pop((host, port), None)
