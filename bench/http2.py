"""Compares HTTP/1.1 and HTTP/2 to the provider: CPU of a unary response and of a streamed token.

    make bench-http2        # or ARGS="--seconds 2 --rounds 5"

One process responds over both protocols with prepared bytes, without TLS, on the loopback. This process
sends the requests, and its CPU is measured. The contestants take turns. TLS is left out: its cost is the
same for both. The advantage of HTTP/2, many requests on one connection, is not measured either: a pool of
warm connections has it too, with more sockets.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final

import h2.config
import h2.connection
import h2.events
import httpx
import pyqwest

from bench.transports import BODY, HEADERS, KEY, RESPONSE, cpu_per_request_ms, cpu_s
from togetherchat_server.config import ProviderConfig
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits

IN_FLIGHT: Final = (8, 128)
STREAMS: Final = 8
TOKENS: Final = 400
EVENT: Final = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":" token"}}]}' + b" " * 180 + b"\n\n"
STREAMED: Final = TOKENS * len(EVENT)
BODIES: Final = {"fast": RESPONSE, "stream": EVENT * TOKENS}

Send = Callable[[str], Awaitable[int]]
"""Sends a request for a path, reads the response as it arrives and returns its number of bytes."""
Contestant = Callable[[int, int], AbstractAsyncContextManager[Send]]
"""Takes the ports of HTTP/1.1 and HTTP/2."""


# The contestants ------------------------------------------------------------------------


@asynccontextmanager
async def our_client(http1: int, _http2: int) -> AsyncGenerator[Send, None]:
    client = UpstreamClient.connect(
        ProviderConfig(base_url=f"http://127.0.0.1:{http1}", key=None),
        limits=UpstreamLimits(),
        user_agent="bench/1",
    )
    key = Secret(KEY)

    async def send(path: str) -> int:
        read = 0
        async with aclosing(await client.open_stream(path, key=key, request_id="r", body=BODY)) as response:
            while chunk := await response.read():
                read += len(chunk)
        return read

    yield send
    await client.aclose()


@asynccontextmanager
async def httpx_http2(_http1: int, http2: int) -> AsyncGenerator[Send, None]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(http1=False, http2=True, timeout=None, limits=limits) as client:  # noqa: S113

        async def send(path: str) -> int:
            read = 0
            url = f"http://127.0.0.1:{http2}/{path}"
            async with client.stream("POST", url, content=BODY, headers=HEADERS) as response:
                async for chunk in response.aiter_raw():
                    read += len(chunk)
            return read

        yield send


@asynccontextmanager
async def pyqwest_http1(http1: int, _http2: int) -> AsyncGenerator[Send, None]:
    yield _through_pyqwest(pyqwest.HTTPVersion.HTTP1, http1)


@asynccontextmanager
async def pyqwest_http2(_http1: int, http2: int) -> AsyncGenerator[Send, None]:
    yield _through_pyqwest(pyqwest.HTTPVersion.HTTP2, http2)


def _through_pyqwest(version: pyqwest.HTTPVersion, port: int) -> Send:
    client = pyqwest.Client(pyqwest.HTTPTransport(http_version=version, enable_otel=False))

    async def send(path: str) -> int:
        read = 0
        async with client.stream("POST", f"http://127.0.0.1:{port}/{path}", HEADERS, BODY) as response:
            async for chunk in response.content:
                read += len(chunk)
        return read

    return send


CONTESTANTS: Final[dict[str, Contestant]] = {
    "our `UpstreamClient`, HTTP/1.1": our_client,
    "httpx and h2, HTTP/2": httpx_http2,
    "pyqwest (compiled), HTTP/1.1": pyqwest_http1,
    "pyqwest (compiled), HTTP/2": pyqwest_http2,
}


async def cpu_per_token_us(send: Send, *, seconds: float) -> float:
    """Measure concurrent streams whose tokens are available at once."""
    await asyncio.gather(*(send("stream") for _ in range(STREAMS)))
    ends_at, tokens, began = asyncio.get_running_loop().time() + seconds, 0, cpu_s()

    async def keep_sending() -> None:
        nonlocal tokens
        while asyncio.get_running_loop().time() < ends_at:
            if await send("stream") != STREAMED:
                raise RuntimeError("a stream was incomplete")
            tokens += TOKENS

    async with asyncio.TaskGroup() as group:
        for _ in range(STREAMS):
            group.create_task(keep_sending())
    return (cpu_s() - began) / tokens * 1e6


# The upstream, in a process of its own --------------------------------------------------


class Http1(asyncio.Protocol):
    """Sends each event as its own chunk, all chunks in one write."""

    RESPONSES: Final = {
        path: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(
            b"%x\r\n%b\r\n" % (len(chunk), chunk)
            for chunk in ([EVENT] * TOKENS if path == "stream" else [body])
        )
        + b"0\r\n\r\n"
        for path, body in BODIES.items()
    }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        top, found, body = self.received.partition(b"\r\n\r\n")
        if found and len(body) >= len(BODY):
            self.received = b""
            path = top.split(b" ", 2)[1].decode().lstrip("/")
            if isinstance(self.transport, asyncio.WriteTransport):
                self.transport.write(self.RESPONSES[path])


@dataclass(slots=True)
class PendingResponse:
    """The rest of a response that is being sent."""

    body: memoryview
    frame_bytes: int


@dataclass(slots=True)
class Http2(asyncio.Protocol):
    """Sends each event as its own frame, as many in one write as the client's window allows."""

    http2: h2.connection.H2Connection = field(
        default_factory=lambda: h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    )
    pending: dict[int, PendingResponse] = field(default_factory=dict[int, PendingResponse])
    paths: dict[int, str] = field(default_factory=dict[int, str])
    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.http2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.http2.receive_data(data):
            match event:
                case h2.events.RequestReceived():
                    headers = {bytes(name): bytes(value) for name, value in event.headers}
                    self.paths[event.stream_id] = headers[b":path"].decode().lstrip("/")
                case h2.events.DataReceived():
                    self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.respond(event.stream_id)
                case _:
                    pass
        for stream in list(self.pending):
            self.continue_sending(stream)
        self.flush()

    def respond(self, stream: int) -> None:
        path = self.paths.pop(stream)
        self.http2.send_headers(stream, [(":status", "200")])
        frame_bytes = len(EVENT) if path == "stream" else len(RESPONSE)
        self.pending[stream] = PendingResponse(memoryview(BODIES[path]), frame_bytes)

    def continue_sending(self, stream: int) -> None:
        left = self.pending[stream]
        while left.body and self.http2.local_flow_control_window(stream) >= left.frame_bytes:
            self.http2.send_data(stream, bytes(left.body[: left.frame_bytes]))
            left.body = left.body[left.frame_bytes :]
        if not left.body:
            self.http2.end_stream(stream)
            del self.pending[stream]

    def flush(self) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.write(self.http2.data_to_send())


async def serve() -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(kind, "127.0.0.1", 0, backlog=1024) for kind in (Http1, Http2)]
    sys.stdout.write(" ".join(str(server.sockets[0].getsockname()[1]) for server in servers) + "\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.serve_forever() for server in servers))


@contextlib.contextmanager
def upstream() -> Generator[tuple[int, int], None, None]:
    command = [sys.executable, "-m", "bench.http2", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  for the types
        try:
            http1, http2 = map(int, process.stdout.readline().split())
            yield http1, http2
        finally:
            process.terminate()


# The report -----------------------------------------------------------------------------


async def measure(ports: tuple[int, int], arguments: argparse.Namespace) -> str:
    figures: dict[tuple[str, int], list[float]] = {}
    for _ in range(arguments.rounds):
        for name, contestant in CONTESTANTS.items():
            async with contestant(*ports) as send:
                for in_flight in IN_FLIGHT:
                    cost = await cpu_per_request_ms(send, in_flight=in_flight, seconds=arguments.seconds)
                    figures.setdefault((name, in_flight), []).append(cost)
                figures.setdefault((name, 0), []).append(
                    await cpu_per_token_us(send, seconds=arguments.seconds)
                )
    lines = ["| client | " + " | ".join(f"CPU ms per response, {n} in flight" for n in IN_FLIGHT)]
    lines[0] += f" | CPU us per token, {STREAMS} streams |"
    lines.append("|---" * (len(IN_FLIGHT) + 2) + "|")
    for name in CONTESTANTS:
        cells = " | ".join(_median(figures[name, column]) for column in (*IN_FLIGHT, 0))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _median(figures: list[float]) -> str:
    return f"{statistics.median(figures):.2f} ({min(figures):.2f}-{max(figures):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of each figure of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
        return
    with upstream() as ports:
        table = asyncio.run(measure(ports, arguments))
    versions = ", ".join(f"{name} {version(name)}" for name in ("httpx", "h2", "pyqwest", "httptools"))
    sys.stdout.write(
        f"{versions}; {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; median (least-most) of "
        f"{arguments.rounds} rounds of {arguments.seconds:g} s.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
