"""Egress proxies on the loopback: an HTTP proxy that tunnels and forwards, and a SOCKS5 proxy.

Both lead to wherever the test says, so that the names of providers need not exist. They know nothing of
the code under test. A misbehaving proxy sends `answer` instead of its own, or nothing at all.
"""

import asyncio
import contextlib
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from togetherchat_server.config.proxy import Proxy

REASONABLE_S = 20.0
SOCKS_VERSION = 5
USER_AND_PASSWORD = 2
NOT_ALLOWED = 2


@dataclass(kw_only=True)
class _TcpProxy(ABC):
    """A proxy whose connections are tunnels to `port`, whatever their clients ask for."""

    port: int
    scheme: str = "http"
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    targets: list[str] = field(default_factory=list)
    """What each client asked for: HOST:PORT, or a URL."""
    open_tunnels: int = 0
    connections: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self.tls)
        self.listens_on = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._server.close()
        await self.cut()

    def address(self, *, user: str = "", password: str = "") -> Proxy:
        return Proxy(scheme=self.scheme, host=self.host, port=self.listens_on, user=user, password=password)

    async def cut(self) -> None:
        """Close every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, reached: Callable[[Self], object], *, within_s: float = REASONABLE_S) -> None:
        """Wait until `reached(self)` is true. Raises TimeoutError if it does not become true."""
        async with asyncio.timeout(within_s):
            while not reached(self):
                self._changed.clear()
                await self._changed.wait()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self._changed.set()
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            self._changed.set()

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""

    async def _tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
    ) -> None:
        """Pass bytes on in both directions until one side ends, then end the other side too."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.open_tunnels += 1
        try:
            far_writer.write(first)
            pumps = [
                asyncio.create_task(_pump(reader, far_writer)),
                asyncio.create_task(_pump(far_reader, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self.open_tunnels -= 1
            far_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@dataclass(kw_only=True)
class HttpProxy(_TcpProxy):
    """An HTTP proxy. `answer` replaces its response to CONNECT; with None it never responds."""

    answer: bytes | None = b"HTTP/1.1 200 Connection established\r\n\r\n"
    close_after_answer: bool = False
    heads: list[str] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        method, target, _ = head.partition("\r\n")[0].split(" ")
        self.targets.append(target)
        self._changed.set()
        if method != "CONNECT":
            parts = urlsplit(target)
            await self._tunnel(reader, writer, head.replace(target, parts.path, 1).encode("latin-1"))
            return
        if self.answer is None:
            await reader.read()
            return
        writer.write(self.answer)
        await writer.drain()
        if self.close_after_answer:
            writer.close()
            await writer.wait_closed()
        elif b" 200" in self.answer:
            await self._tunnel(reader, writer)
        else:
            await reader.read()


@dataclass(kw_only=True)
class SocksProxy(_TcpProxy):
    """A SOCKS5 proxy (RFC 1928 and 1929). `reply` is its answer to the request for a connection."""

    scheme: str = "socks5"
    credentials: tuple[str, str] | None = None
    reply: int | None = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(bytes((SOCKS_VERSION, USER_AND_PASSWORD if self.credentials else 0)))
        if self.credentials and (await _pair(reader)) != self.credentials:
            writer.write(b"\x01\x01")
            await writer.drain()
            return
        if self.credentials:
            writer.write(b"\x01\x00")
        *_, kind = await reader.readexactly(4)
        assert kind == 3, "the client must leave the lookup of the name to the proxy"
        host = await reader.readexactly((await reader.readexactly(1))[0])
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.targets.append(f"{host.decode('ascii')}:{port}")
        self._changed.set()
        if self.reply is None:
            await reader.read()
            return
        writer.write(bytes((SOCKS_VERSION, self.reply, 0, 1)) + bytes(6))
        await writer.drain()
        if self.reply == 0:
            await self._tunnel(reader, writer)


async def _pair(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Read a user and a password."""
    await reader.readexactly(1)
    read: Callable[[], Awaitable[bytes]] = lambda: reader.readexactly(1)  # noqa: E731
    user = await reader.readexactly((await read())[0])
    password = await reader.readexactly((await read())[0])
    return user.decode("ascii"), password.decode("ascii")
