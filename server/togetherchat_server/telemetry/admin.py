"""The admin port: liveness, readiness, version and metrics.

A small HTTP server on asyncio's streams. It runs on the event loop that serves the calls, so a probe
fails if that loop is blocked. Bounded: one short request per connection, within five seconds, and a
number of connections, of which the oldest is closed for a new one.
`/healthz` shows that the loop runs, `/readyz` that calls are accepted; neither contacts the provider.
`/metrics` is for Prometheus; this module does not know its format.

A web page whose site's name was made to resolve to this address (DNS rebinding) could read the metrics. So
the name in `Host` must be one that no public site can have, or one that the operator set.
"""

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, final

from togetherchat_server.config.listen_address import ListenAddress, bound_sockets
from togetherchat_server.domain.addresses import normalised
from togetherchat_server.telemetry.admin_audit import AdminAudit

REQUEST_BYTES_MAX: Final = 8192
REQUEST_TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 128
BACKLOG: Final = 1024
"""Connections that wait to be accepted. A probe beyond it is repeated by its kernel after a second."""
ACCEPTS_PER_TURN: Final = 32
"""Connections accepted in one turn of the event loop. asyncio accepts as many as its backlog."""
METRICS: Final = "/metrics"
PRIVATE_DOMAINS: Final = (".local", ".localhost", ".internal", ".svc")
"""Domains without public names; `.local` includes those of a Kubernetes cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The response of a path."""

    status: HTTPStatus
    content_type: str
    body: bytes


Pages = Mapping[str, Callable[[], Page]]
Scrape = Callable[[str], Awaitable[tuple[str, bytes]]]
"""Returns the content type and the body of `/metrics` for an `accept` header."""


def pages(
    *,
    ready: Callable[[], bool],
    version: str,
    alive: Callable[[], bool] = lambda: True,
) -> Pages:
    """Return the pages of one process. A process that responds is alive, unless `alive` returns false."""

    def liveness() -> Page:
        return _text(HTTPStatus.OK, "ok") if alive() else _text(HTTPStatus.SERVICE_UNAVAILABLE, "not alive")

    def readiness() -> Page:
        return _text(HTTPStatus.OK, "ok") if ready() else _text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready")

    def about() -> Page:
        return _json({"name": "togetherchat", "version": version})

    return {"/healthz": liveness, "/readyz": readiness, "/version": about}


@final
class Admin:
    """Serves pages over HTTP."""

    def __init__(self, pages: Pages, scrape: Scrape | None = None, *, hosts: Collection[str] = ()) -> None:
        """`hosts` are further names under which the pages may be requested, in lower case."""
        self._pages = pages
        self._paths = (*pages, *(() if scrape is None else (METRICS,)))
        self._scrape = scrape
        self._hosts = hosts
        self._audit = AdminAudit()
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def start(self, address: str) -> str:
        """Bind and serve; return the bound address.

        Raises:
            OSError: the address cannot be bound.
        """
        where = ListenAddress.parse(address)
        sockets = bound_sockets(where)
        for listener in sockets:
            server = await asyncio.start_server(
                self._serve, sock=listener, limit=REQUEST_BYTES_MAX, backlog=ACCEPTS_PER_TURN
            )
            listener.listen(BACKLOG)
            self._servers.append(server)
        return str(where if where.path else where.with_port(sockets[0].getsockname()[1]))

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        # From Python 3.12 on `wait_closed` waits for open connections, however slow.
        for writer in tuple(self._open):
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > CONNECTIONS_MAX:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, target = head.partition(b" ")
                path = target.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
                page = await self._page(method, path, head)
                self._audit.record(_address(writer), path if path in self._paths else None, page.status)
                writer.write(_response(page, with_body=method != b"HEAD"))
                await writer.drain()
        except TimeoutError:
            # Drop what a slow client has not read.
            writer.transport.abort()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _page(self, method: bytes, path: str, head: bytes) -> Page:
        if method not in {b"GET", b"HEAD"}:
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD")
        hosts = _header_values(head, b"host")
        if len(hosts) > 1:
            return _text(HTTPStatus.BAD_REQUEST, "the request must have one Host header")
        if hosts and not is_private_name(_name_of(hosts[0]), self._hosts):
            return _text(HTTPStatus.MISDIRECTED_REQUEST, "unknown host; add it to --admin-hosts")
        if path in self._pages:
            return self._pages[path]()
        if self._scrape is None or path != METRICS:
            return _text(HTTPStatus.NOT_FOUND, "not found; the paths are " + ", ".join(self._paths))
        content_type, body = await self._scrape(_accept(head))
        return Page(status=HTTPStatus.OK, content_type=content_type, body=body)


def _address(writer: asyncio.StreamWriter) -> str:
    peer: tuple[str, ...] | None = writer.get_extra_info("peername")
    return normalised(peer[0]) if peer else ""


def is_private_name(name: str, hosts: Collection[str]) -> bool:
    """Return whether no site of the internet can have this host name, or it is one of `hosts`."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(PRIVATE_DOMAINS) or name in hosts
    return True


def _name_of(host: str) -> str:
    """Return the name in a `Host` header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".").lower()


def _accept(head: bytes) -> str:
    """Return the values of all `accept` headers, joined."""
    return ", ".join(_header_values(head, b"accept"))


def _header_values(head: bytes, wanted: bytes) -> list[str]:
    return [
        value.strip().decode("latin-1")
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        if name.lower() == wanted
    ]


def _response(page: Page, *, with_body: bool) -> bytes:
    lines = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"content-type: {page.content_type}",
        f"content-length: {len(page.body)}",
        "cache-control: no-store",
        "connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode("latin-1") + (page.body if with_body else b"")


def _json(body: Mapping[str, object]) -> Page:
    return Page(status=HTTPStatus.OK, content_type="application/json", body=json.dumps(body).encode())


def _text(status: HTTPStatus, text: str) -> Page:
    return Page(status=status, content_type="text/plain; charset=utf-8", body=text.encode() + b"\n")
