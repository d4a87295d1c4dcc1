"""The admin port: liveness, readiness, version and metrics.

A small HTTP server on asyncio's streams. It runs on the event loop that serves the calls, so a probe
fails if that loop is blocked. Bounded: one short request per connection, within five seconds.
`/healthz` shows that the loop runs, `/readyz` that calls are accepted; neither contacts the provider.
`/metrics` is for Prometheus; this module does not know its format.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, final

REQUEST_BYTES_MAX: Final = 8192
REQUEST_TIMEOUT_S: Final = 5.0
METRICS: Final = "/metrics"


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

    def __init__(self, pages: Pages, scrape: Scrape | None = None) -> None:
        self._pages = pages
        self._scrape = scrape
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, address: str) -> str:
        """Bind and serve; return the bound address.

        Raises:
            OSError: the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        self._server = await asyncio.start_server(
            self._serve, host.strip("[]"), int(port), limit=REQUEST_BYTES_MAX
        )
        return f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            # From Python 3.12 on `wait_closed` waits for open connections, however slow.
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, target = head.partition(b" ")
                path = target.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
                page = await self._page(method, path, head)
                writer.write(_response(page, with_body=method != b"HEAD"))
                await writer.drain()
        except TimeoutError:
            # Drop what a slow client has not read.
            writer.transport.abort()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _page(self, method: bytes, path: str, head: bytes) -> Page:
        if method not in {b"GET", b"HEAD"}:
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD")
        if path in self._pages:
            return self._pages[path]()
        if self._scrape is None or path != METRICS:
            paths = [*self._pages, *([] if self._scrape is None else [METRICS])]
            return _text(HTTPStatus.NOT_FOUND, "not found; the paths are " + ", ".join(paths))
        content_type, body = await self._scrape(_accept(head))
        return Page(status=HTTPStatus.OK, content_type=content_type, body=body)


def _accept(head: bytes) -> str:
    """Return the values of all `accept` headers, joined."""
    values = [
        value.strip().decode("latin-1")
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        if name.lower() == b"accept"
    ]
    return ", ".join(values)


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
