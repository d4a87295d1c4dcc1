"""HTTP clients of a started service: an ordinary one, and a raw one that can break the protocol."""

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from support.app import MODEL, RunningApp, running_app
from support.waiting import eventually

COMPLETIONS = "/v1/chat/completions"
TOKEN = "tgp_v1_callers0123456789"
REQUEST = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


def request_body(**members):
    """The body of a request."""
    return {**REQUEST, **members}


@dataclass(kw_only=True)
class HttpService:
    """A started service with an HTTP listener, and a client of it."""

    app: RunningApp
    client: httpx.AsyncClient

    @property
    def address(self):
        return self.app.addresses.http

    @property
    def port(self):
        return int(self.address.rpartition(":")[2])

    async def complete(self, **members):
        return await self.client.post(COMPLETIONS, json=request_body(**members))

    async def events(self, **members):
        """The data of a stream's events, as JSON except `[DONE]`."""
        response = await self.complete(stream=True, **members)
        assert 200 == response.status_code, response.text
        return events_of(response.text)

    async def stream(self, **members):
        """The response to a request for a stream, as far as it was received, and whether its body has an end."""
        parts, ended = [], True
        request = self.client.stream("POST", COMPLETIONS, json=request_body(**{**members, "stream": True}))
        async with request as response:
            try:
                async for part in response.aiter_bytes():
                    parts.append(part)  # noqa: PERF401  parts before the break are kept
            except httpx.RemoteProtocolError as error:
                ended = "without sending complete message body" not in str(error)
        received = httpx.Response(response.status_code, headers=response.headers, content=b"".join(parts))
        return received, ended

    async def events_before_the_break(self, **members):
        """The data of the events of a stream whose body has no end."""
        response, ended = await self.stream(**members)
        assert (200, False) == (response.status_code, ended)
        return events_of(response.text)

    def records(self):
        return self.app.records()

    async def recorded(self, calls=1):
        """Wait until there are this many call records; returns them."""
        await eventually(lambda: len(self.records()) >= calls)
        return self.records()


@asynccontextmanager
async def running_http(base_url=None, *, headers=None, **settings):
    """As `running_app`, with an HTTP listener and a client that ignores the environment's proxies."""
    async with (
        running_app(base_url, http_listen="127.0.0.1:0", **settings) as app,
        httpx.AsyncClient(
            base_url=f"http://{app.addresses.http}",
            headers=headers,
            trust_env=False,
            timeout=30,
            verify=False,  # over http: reading the authorities takes 20 ms
        ) as client,
    ):
        yield HttpService(app=app, client=client)


def events_of(text):
    """The data of a stream's events; each event is one line of data and a blank line."""
    found = []
    for event in text.split("\n\n")[:-1]:
        if not event.startswith(":"):
            name, _, data = event.partition(": ")
            assert "data" == name, event
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


class RawCaller:
    """One connection that sends the bytes it is given."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def post(self, body, *headers):
        """Send a complete request for a completion."""
        data = json.dumps(body).encode()
        await self.send(head(f"content-length: {len(data)}", *headers) + data)

    async def read_head(self):
        """The status line and headers of the response."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def read_response(self):
        """The head and the body of a response that declares its length."""
        top = await self.read_head()
        return top + await self.reader.readexactly(int(top.partition(b"content-length: ")[2].split()[0]))

    async def read_to_end(self):
        """What arrives until the service closes or resets the connection."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    def close(self):
        """Close with a FIN."""
        self.writer.close()

    def reset(self):
        """Close with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def head(*headers, method="POST", path=COMPLETIONS):
    lines = (f"{method} {path} HTTP/1.1", "host: localhost", "content-type: application/json", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True, kw_only=True)
class Page:
    """A response of the admin listener."""

    status: int
    headers: dict[str, str]
    text: str


@asynccontextmanager
async def raw_caller(address, *, tls=None, receive_bytes=None):
    """A connection to `host:port`, plain or with this TLS context.

    `receive_bytes` limits how much the kernel accepts for a caller that does not read.
    """
    host, _, port = address.rpartition(":")
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    except OSError:
        sock.close()
        raise
    hostname = "localhost" if tls else None
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024, ssl=tls, server_hostname=hostname)
    try:
        yield RawCaller(reader, writer)
    finally:
        writer.transport.abort()


async def get_page(address, path, *headers):
    """A page of the admin listener, which closes the connection after each response.

    There is no look-up of names, because some tests disable that.
    """
    async with raw_caller(address) as caller:
        await caller.send(head(*headers, method="GET", path=path))
        top, _, body = (await caller.read_to_end()).partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    return Page(
        status=int(status.split(" ")[1]),
        headers=dict(line.split(": ", 1) for line in lines),
        text=body.decode(),
    )
