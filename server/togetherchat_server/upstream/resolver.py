"""Resolves a host name and connects a socket to it.

Owns how long an address is cached, and that concurrent calls share one lookup. The race between a
host's addresses (RFC 8305) is aiohappyeyeballs'.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, final

import aiohappyeyeballs

CACHE_TTL_S: Final = 10.0
"""How long a result is reused. The system's resolver has its own cache, with the records' true TTLs."""
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
_Lookup = asyncio.Future[list[AddressInfo]]


async def _system(host: str, port: int) -> list[AddressInfo]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


@final
class Resolver:
    """Connects by name, with a cache of addresses."""

    def __init__(self, resolve: Resolve | None, *, now_s: Callable[[], float]) -> None:
        self._resolve = resolve or _system
        self._now_s = now_s
        self._lookups: dict[tuple[str, int], tuple[float, _Lookup]] = {}

    async def connect(self, host: str, port: int) -> socket.socket:
        """Return a connected socket.

        Raises:
            OSError: no address accepted the connection; `socket.gaierror` if the name has none.
        """
        addresses = await self._find(host, port)
        return await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType]  a bare tuple
            addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, interleave=1
        )

    async def _find(self, host: str, port: int) -> list[AddressInfo]:
        entry = self._lookups.get((host, port))
        if entry is None or (entry[1].done() and self._now_s() - entry[0] > CACHE_TTL_S):
            if len(self._lookups) >= NAMES_MAX:
                self._lookups.clear()
            entry = (self._now_s(), asyncio.ensure_future(self._resolve(host, port)))
            entry[1].add_done_callback(lambda lookup: self._forget_failure(host, port, lookup))
            self._lookups[host, port] = entry
        # Shielded: a cancelled call must not cancel the lookup for the others that wait for it.
        return await asyncio.shield(entry[1])

    def _forget_failure(self, host: str, port: int, lookup: _Lookup) -> None:
        if lookup.cancelled() or lookup.exception() is not None:
            self._lookups.pop((host, port), None)
