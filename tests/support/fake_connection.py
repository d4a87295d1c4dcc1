"""A connection of the HTTP frontend on a fake transport, without a socket or a clock."""

import asyncio
import json
from http import HTTPStatus

from togetherchat_server.frontends.http.protocol.connection import Connection
from togetherchat_server.frontends.http.protocol.listener import ConnectionLimits, ListenerState

# A step of a request takes at most this many iterations of the event loop.
TURNS = 4


class FakeTransport(asyncio.Transport):
    """Records what is written, and which methods were called."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.pending = 0
        self.paused = False
        self.ended = False
        self.closed = False
        self.aborted = False
        self.lost = False
        self.protocol = None

    def write(self, data):
        assert not self.ended, "nothing is written after the end"
        self.written += data

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.ended = True

    def close(self):
        self.closed = True
        if not self.pending:
            self.lose()

    def abort(self):
        self.aborted = True
        self.lose()

    def lose(self):
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self):
        return self.closed or self.aborted

    def get_write_buffer_size(self):
        return self.pending

    @property
    def over(self):
        """Whether nothing more can be served."""
        return self.ended or self.closed or self.aborted


class Echo:
    """An application that reads a request and returns its method, path and length."""

    def __init__(self):
        self.seen = []
        self.begun = []
        self.may_respond = asyncio.Event()
        self.may_respond.set()

    async def __call__(self, scope, receive, send):
        self.begun.append(scope["path"])
        await self.may_respond.wait()
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.seen.append((scope["method"], scope["path"], "broken off"))
                body = b""
                break
            body += message["body"]
            more = message["more_body"]
        else:
            self.seen.append((scope["method"], scope["path"], body))
        self.headers = scope["headers"]
        answer = json.dumps([scope["method"], scope["path"], len(body)]).encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def rejection(status, message):
    body = message.encode()
    return [(b"content-length", str(len(body)).encode())], body


class FakeConnection:
    """A connection, its application and its transport. `feed` delivers bytes as a socket does."""

    def __init__(self, application=None, **limits):
        self.application = application or Echo()
        self.listener = ListenerState(
            application=self.application,
            rejection=rejection,
            limits=ConnectionLimits(**limits),
            date=b"today",
        )
        self.transport = FakeTransport()
        self.connection = self.transport.protocol = Connection(self.listener)
        self.connection.connection_made(self.transport)

    async def feed(self, data, *, run=True):
        """Deliver bytes; with `run`, the application runs after each read."""
        while data and not self.transport.over:
            if self.transport.paused:
                await self.run()
                assert not self.transport.paused or not self.application.may_respond.is_set(), (
                    "reading is never resumed"
                )
                if self.transport.paused:
                    return
            buffer = self.connection.get_buffer(-1)
            piece, data = data[: len(buffer)], data[len(buffer) :]
            buffer[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))
            if run:
                await self.run()
        await self.run()

    async def run(self):
        """Run the event loop until nothing changes."""
        idle, before = 0, None
        while idle < TURNS:
            await asyncio.sleep(0)
            now = len(self.transport.written), len(self.listener.tasks), self.transport.over
            idle, before = (idle + 1, before) if now == before else (0, now)

    def lose(self):
        """Close the connection, as the caller does."""
        self.transport.lose()

    def responses(self):
        """Status and body of every response."""
        found, rest = [], self.transport.written
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            status = HTTPStatus(int(head.split(b" ")[1]))
            if status is HTTPStatus.CONTINUE:
                continue
            headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
            length = int(headers.get(b"content-length", b"0"))
            found.append((int(status), rest[:length]))
            rest = rest[length:]
        return found
