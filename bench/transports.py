"""Compares HTTP clients: CPU per request, and the state of a pool after many cancels.

    python bench/transports.py [--seconds 1] [--rounds 5] [--churn-seconds 3]

One process serves fixed responses over the loopback; this process sends the requests. The contestants take
turns, round by round, so that a busy machine affects all of them. The output is a Markdown table of the
medians. CPU is user and system time of this process only. Compare figures within one table only.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import random
import resource
import ssl
import statistics
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx

from togetherchat_server.config import ProviderConfig
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits
from togetherchat_server.upstream.pool import ConnectionPool

KEY = "key-of-a-benchmark-0123456789"
BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 900 + b'"}]}'
RESPONSE = b'{"id":"1","choices":[{"message":{"content":"' + b"y" * 900 + b'"}}]}'
HEADERS = {
    "User-Agent": "bench/1",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "Authorization": f"Bearer {KEY}",
    "x-request-id": "r",
}
IN_FLIGHT = (8, 128)
POOL = 10
SLOW_S = 0.02

Send = Callable[[str], Awaitable[int]]
"""Sends a request for a path, reads the whole response and returns its number of bytes."""
Contestant = Callable[[str, int], AbstractAsyncContextManager[Send]]
"""Takes the base URL and the maximum number of connections."""


# The contestants ------------------------------------------------------------------------


@asynccontextmanager
async def stock_httpx(base_url: str, connections_max: int) -> AsyncGenerator[Send, None]:
    limits = httpx.Limits(max_connections=connections_max, max_keepalive_connections=connections_max)
    async with httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(None, pool=2.0)) as client:
        yield _through_client(client, base_url)


@asynccontextmanager
async def httpx_over_our_pool(base_url: str, connections_max: int) -> AsyncGenerator[Send, None]:
    pool = ConnectionPool(UpstreamLimits(connections_max=connections_max), tls=ssl.create_default_context)
    async with httpx.AsyncClient(transport=pool, timeout=None) as client:  # noqa: S113  the caller times
        yield _through_client(client, base_url)


@asynccontextmanager
async def our_client(base_url: str, connections_max: int) -> AsyncGenerator[Send, None]:
    limits = UpstreamLimits(connections_max=connections_max)
    client = UpstreamClient.connect(
        ProviderConfig(base_url=base_url, key=None), limits=limits, user_agent="bench/1"
    )
    key = Secret(KEY)

    async def send(path: str) -> int:
        return len((await client.send("POST", path, key=key, request_id="r", body=BODY)).body)

    yield send
    await client.aclose()


def _through_client(client: httpx.AsyncClient, base_url: str) -> Send:
    async def send(path: str) -> int:
        response = await client.post(f"{base_url}/{path}", content=BODY, headers=HEADERS)
        return len(response.content)

    return send


CONTESTANTS: dict[str, Contestant] = {
    "`httpx.AsyncClient`": stock_httpx,
    "`httpx.AsyncClient` over our pool": httpx_over_our_pool,
    "our `UpstreamClient`": our_client,
}


# What is measured -----------------------------------------------------------------------


async def cpu_per_request_ms(send: Send, *, in_flight: int, seconds: float) -> float:
    """Measure a closed loop with a fixed number of requests in flight."""
    await asyncio.gather(*(send("fast") for _ in range(in_flight)))
    ends_at, sent, began = asyncio.get_running_loop().time() + seconds, 0, cpu_s()

    async def keep_sending() -> None:
        nonlocal sent
        while asyncio.get_running_loop().time() < ends_at:
            if await send("fast") != len(RESPONSE):
                raise RuntimeError("a response was incomplete")
            sent += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(keep_sending())
    return (cpu_s() - began) / sent * 1000


async def churn(send: Send, *, seconds: float) -> tuple[int, int]:
    """Fill the pool with requests and cancel each at a random time.

    Returns the number of requests, and how many of them were cancelled.
    """
    rng = random.Random(1)  # noqa: S311  not a secret
    ends_at, sent, cancelled = asyncio.get_running_loop().time() + seconds, 0, 0

    async def send_and_cancel() -> None:
        nonlocal sent, cancelled
        while asyncio.get_running_loop().time() < ends_at:
            sent += 1
            try:
                async with asyncio.timeout(rng.uniform(0, SLOW_S)):
                    await send("slow")
            except TimeoutError:
                cancelled += 1
            except httpx.PoolTimeout:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(POOL):
            group.create_task(send_and_cancel())
    return sent, cancelled


async def usable_connections(send: Send, base_url: str) -> tuple[int, int]:
    """Send as many requests as the pool has connections.

    Returns how many of them succeeded, and how many connections are open.
    """

    async def served() -> bool:
        with contextlib.suppress(TimeoutError, httpx.HTTPError):
            async with asyncio.timeout(3):
                return await send("held") == len(RESPONSE)
        return False

    usable = sum(await asyncio.gather(*(served() for _ in range(POOL))))
    async with httpx.AsyncClient() as observer:
        others = int((await observer.get(f"{base_url}/open")).headers["x-open"]) - 1
    return usable, others


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# The upstream, in a process of its own --------------------------------------------------


class Upstream(asyncio.Protocol):
    """Sends a fixed response: `slow` after a delay, and every response with the number of connections."""

    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Upstream.connections += 1
        self.transport = transport
        self.received = b""

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        Upstream.connections -= 1

    def data_received(self, data: bytes) -> None:
        self.received += data
        top, found, body = self.received.partition(b"\r\n\r\n")
        posted = top.startswith(b"POST")
        if not found or (posted and len(body) < len(BODY)):
            return
        self.received = b""
        path = top.split(b" ", 2)[1]
        delay_s = {b"/slow": random.uniform(0, SLOW_S), b"/held": 0.2}.get(path[-5:], 0.0)  # noqa: S311
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self.respond)
        else:
            self.respond()

    def respond(self) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(RESPONSE)}\r\nx-open: {Upstream.connections}\r\n\r\n"
        if isinstance(self.transport, asyncio.WriteTransport) and not self.transport.is_closing():
            self.transport.write(head.encode() + RESPONSE)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextlib.contextmanager
def upstream() -> Generator[str, None, None]:
    command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  for the types
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


# The report -----------------------------------------------------------------------------


async def measure(base_url: str, arguments: argparse.Namespace) -> str:
    cpu: dict[tuple[str, int], list[float]] = {}
    for _ in range(arguments.rounds):
        for in_flight in IN_FLIGHT:
            for name, contestant in CONTESTANTS.items():
                async with contestant(base_url, in_flight) as send:
                    figure = await cpu_per_request_ms(send, in_flight=in_flight, seconds=arguments.seconds)
                cpu.setdefault((name, in_flight), []).append(figure)
    lines = ["| client | " + " | ".join(f"CPU ms per request, {n} in flight" for n in IN_FLIGHT) + " | "]
    lines[0] += f"requests, cancelled | served of {POOL} afterwards | connections open |"
    lines.append("|---" * (len(IN_FLIGHT) + 4) + "|")
    for name, contestant in CONTESTANTS.items():
        async with contestant(base_url, POOL) as send:
            sent, cancelled = await churn(send, seconds=arguments.churn_seconds)
            await asyncio.sleep(0.5)
            served, connections = await usable_connections(send, base_url)
        figures = " | ".join(_median(cpu[name, n]) for n in IN_FLIGHT)
        lines.append(f"| {name} | {figures} | {sent}, {cancelled} | {served} | {connections} |")
    return "\n".join(lines)


def _median(figures: list[float]) -> str:
    return f"{statistics.median(figures):.2f} ({min(figures):.2f}-{max(figures):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="duration of each round of each contestant"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--churn-seconds", type=float, default=3.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
        return
    with upstream() as base_url:
        table = asyncio.run(measure(base_url, arguments))
    versions = f"Python {platform.python_version()}, httpx {httpx.__version__}"
    sys.stdout.write(
        f"{versions}; {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; "
    )
    sys.stdout.write(
        f"median (least-most) of {arguments.rounds} rounds of {arguments.seconds:g} s.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
