"""Counts the calls that gRPC's core started, whether or not they were accepted.

Beyond `grpc.server.max_pending_requests` the core cancels calls that wait to be accepted. No handler
runs for them, so nothing else in the service sees them. The core counts them for channelz, which is on
by default; the channelz service itself is not offered.
"""

import json
from collections.abc import Callable
from typing import Final, cast, final

from grpc._cython import cygrpc  # pyright: ignore[reportMissingTypeStubs]

LIST_SERVERS: Final = "channelz_get_servers"


@final
class StartedCalls:
    """Finds the server that is created within `with`, and reads its count of calls."""

    def __init__(self) -> None:
        self._before: frozenset[str] = frozenset()
        self._server: str | None = None

    def __enter__(self) -> "StartedCalls":
        self._before = frozenset(_started_by_server())
        return self

    def __exit__(self, *_: object) -> None:
        # A server has an id in channelz, but grpcio does not return it.
        self._server = next(iter(_started_by_server().keys() - self._before), None)

    def count(self) -> int:
        """Return how many calls the core started; 0 if this version of grpcio does not count them."""
        return 0 if self._server is None else _started_by_server().get(self._server, 0)


def _started_by_server() -> dict[str, int]:
    """Return the calls that each gRPC server of this process started, by the server's id."""
    list_servers = cast("Callable[[int], bytes] | None", getattr(cygrpc, LIST_SERVERS, None))
    if list_servers is None:
        return {}
    started: dict[str, int] = {}
    first = 0
    while True:
        page = json.loads(list_servers(first))
        for server in page.get("server", ()):
            started[server["ref"]["serverId"]] = int(server["data"]["callsStarted"])
        if page.get("end", True):
            return started
        first = 1 + max(map(int, started))
