"""Compares the cost of new TLS connections: full handshakes and resumed sessions.

    make bench-handshakes       # or ARGS="--connections 500 --rounds 9"

One process serves TLS 1.3 on the loopback with a certificate from an intermediate authority. This process
sends each request over a new connection. The contestants take turns. CPU is that of this process; the
signature that the provider saves shows in the time.
"""

import argparse
import asyncio
import contextlib
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import trustme

from bench.transports import cpu_s
from togetherchat_server.upstream import tls_sessions
from togetherchat_server.upstream.limits import UpstreamLimits
from togetherchat_server.upstream.pool import ConnectionPool

HEAD_END: Final = b"\r\n\r\n"
RESPONSE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


async def serve(folder: Path) -> None:
    root = trustme.CA()
    root.cert_pem.write_to_path(str(folder / "root.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = root.create_child_ca().issue_cert("localhost")
    leaf.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  pyOpenSSL's types, not installed

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(HEAD_END)
            writer.write(RESPONSE)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0, ssl=context)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextlib.contextmanager
def served(folder: Path) -> Generator[str, None, None]:
    command = [sys.executable, "-m", "bench.handshakes", "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  for the types
        try:
            yield f"https://localhost:{process.stdout.readline().strip()}/"
        finally:
            process.terminate()


def _same(context: ssl.SSLContext) -> ssl.SSLContext:
    return context


async def measure(url: str, authority: Path, arguments: argparse.Namespace) -> dict[str, list[list[float]]]:
    pools: dict[str, ConnectionPool] = {}
    for name in ("full", "resumed"):
        context = ssl.create_default_context(cafile=str(authority))
        if name == "resumed":
            tls_sessions.resume(context)
        pools[name] = ConnectionPool(UpstreamLimits(), tls=partial(_same, context))
    figures: dict[str, list[list[float]]] = {name: [] for name in pools}
    for _ in range(arguments.rounds):
        for name, pool in pools.items():
            began_s, used_s = time.perf_counter(), cpu_s()
            for _ in range(arguments.connections):
                response = await pool.handle_async_request(httpx.Request("GET", url))
                await response.aread()
                await response.aclose()
            each_ms = 1000 / arguments.connections
            figures[name].append([(cpu_s() - used_s) * each_ms, (time.perf_counter() - began_s) * each_ms])
    for pool in pools.values():
        await pool.aclose()
    return figures


def report(figures: dict[str, list[list[float]]]) -> str:
    lines = ["| handshake | CPU ms a connection | ms from connect to response |", "|---|---|---|"]
    for name, rounds in figures.items():
        cells = [
            f"{statistics.median(column):.2f} ({min(column):.2f}-{max(column):.2f})"
            for column in zip(*rounds, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=300, help="connections per round and contestant")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(Path(arguments.serve)))
        return
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url:
        figures = asyncio.run(measure(url, Path(folder) / "root.pem", arguments))
    sys.stdout.write(
        f"{ssl.OPENSSL_VERSION}; {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; median (least-most) "
        f"of {arguments.rounds} rounds of {arguments.connections} connections.\n\n{report(figures)}\n"
    )


if __name__ == "__main__":
    main()
