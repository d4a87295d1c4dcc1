"""Bounds the bytes of request bodies that are being received, of all connections together.

A body is buffered until it is complete. Callers that send large bodies slowly would otherwise fill the
memory, each below the bound of one request. One address may use half of the bound, so that it cannot keep
the others out.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import final

from togetherchat_server.domain.addresses import network_of
from togetherchat_server.domain.reasons import Reason, ServiceError


@final
class UnreadBodies:
    """The bodies that are being received by one process."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._by_network: Counter[str] = Counter()

    @contextmanager
    def receiving(self, host: str) -> Generator["UnreadBody"]:
        """Count the bytes of one body until the context ends."""
        body = UnreadBody(self, network_of(host))
        try:
            yield body
        finally:
            self._bytes -= body.size
            self._by_network[body.network] -= body.size
            if not self._by_network[body.network]:
                del self._by_network[body.network]

    def count(self, network: str, size: int) -> None:
        """Count received bytes, if there is room for them. Raises ServiceError OVERLOADED."""
        of_network = self._by_network[network] + size
        if self._bytes + size > self._bytes_max or of_network > self._bytes_max // 2:
            raise ServiceError(
                Reason.OVERLOADED, "the service is receiving too many large requests; retry later"
            )
        self._bytes += size
        self._by_network[network] = of_network


@final
class UnreadBody:
    """The received bytes of one body."""

    __slots__ = ("_bodies", "network", "size")

    def __init__(self, bodies: UnreadBodies, network: str) -> None:
        self._bodies = bodies
        self.network = network
        self.size = 0

    def add(self, size: int) -> None:
        """Count received bytes. Raises ServiceError OVERLOADED."""
        self._bodies.count(self.network, size)
        self.size += size
