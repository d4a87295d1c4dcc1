"""The HTTP door of a started service, and callers of it: a polite one and a raw one."""

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
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


def ask(**members):
    """The body of a request."""
    return {**ASK, **members}


@dataclass(kw_only=True)
class Door:
    """A service with its door open."""

    app: RunningApp
    client: httpx.AsyncClient

    @property
    def place(self):
        host, _, port = self.app.addresses.http.rpartition(":")
        return host, int(port)

    async def complete(self, **members):
        return await self.client.post(COMPLETIONS, json=ask(**members))

    async def events(self, **members):
        """The data of a stream's events, parsed but for `[DONE]`."""
        response = await self.complete(stream=True, **members)
        assert 200 == response.status_code, response.text
        return events_of(response.text)

    def records(self):
        return self.app.records()

    async def recorded(self, calls=1):
        """The records, once there are so many."""
        await eventually(lambda: len(self.records()) >= calls)
        return self.records()


@asynccontextmanager
async def running_door(base_url=None, *, headers=None, **settings):
    """As `running_app`, with the door and a client of it that trusts no environment."""
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
        yield Door(app=app, client=client)


def events_of(text):
    """What a stream said: every event is one line of data and a blank one."""
    found = []
    for event in text.split("\n\n")[:-1]:
        if not event.startswith(":"):
            name, _, data = event.partition(": ")
            assert "data" == name, event
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


class RawCaller:
    """A peer that speaks HTTP by hand, so that it can misbehave."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, body, *headers):
        """Send a whole request."""
        data = json.dumps(body).encode()
        await self.send(head(f"content-length: {len(data)}", *headers) + data)

    async def head(self):
        """The status and headers of the answer."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def ended(self):
        """What comes until the service closes the connection. A reset is an end too."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    def leave(self):
        """Close in order."""
        self.writer.close()

    def reset(self):
        """Vanish with a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def head(*headers, method="POST", path=COMPLETIONS):
    lines = (f"{method} {path} HTTP/1.1", "host: localhost", "content-type: application/json", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@asynccontextmanager
async def raw_caller(door, *, receive_bytes=None):
    """A connection; with `receive_bytes` its kernel takes no more than about that for a peer who does
    not read.
    """
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, door.place)
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    caller = RawCaller(reader, writer)
    try:
        yield caller
    finally:
        writer.transport.abort()
