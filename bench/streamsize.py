"""Shows which code holds the memory of an open stream.

    make bench-streamsize       # or ARGS="--streams 2000"

The service runs in this process, so that tracemalloc can attribute its allocations. The growth of the
process is measured in a run before that, because tracemalloc takes memory itself. The growth that Python
cannot attribute belongs to gRPC's core and the C libraries. Linux only.
"""

import argparse
import asyncio
import contextlib
import gc
import io
import json
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Final

from bench import payloads, procfs
from togetherchat_server.config import Configuration, ProviderConfig, Settings
from togetherchat_server.domain.secret import Secret
from togetherchat_server.runtime.app import App
from togetherchat_server.runtime.observability import Environment

HOLD_S: Final = 6
WARM_STREAMS: Final = 50
KIB: Final = 1024
OWNERS: Final = (
    ("frontends: the call and its message", "togetherchat_server/frontends/"),
    ("calls: admission, validation, routing", "togetherchat_server/calls/"),
    ("the provider: translation, event parser", "togetherchat_server/providers/"),
    ("upstream: connection, its HTTP parser, retries", "togetherchat_server/upstream/"),
    ("grpcio's Python", "grpc/"),
    ("httpx", "httpx/"),
    ("asyncio: tasks, transports, buffers", "asyncio/"),
)
REST: Final = "everything else in Python"


def owner(path: str) -> str:
    return next((name for name, part in OWNERS if part in path), REST)


@contextlib.asynccontextmanager
async def service(upstream: str) -> AsyncGenerator[str, None]:
    settings = Settings.model_validate(
        {
            "grpc_listen": "127.0.0.1:0",
            "admin_listen": "off",
            "log_format": "json",
            "max_concurrent_calls": 12_000,
        }
    )
    provider = ProviderConfig(base_url=f"http://{upstream}/v1", key=Secret("key-of-a-benchmark-0123456789"))
    environment = Environment(
        version="0", clock=time.monotonic, wall_clock=time.time, random=lambda: 0.5, log=io.StringIO()
    )
    app = App(Configuration(settings=settings, provider=provider, certificates=None), environment)
    addresses = await app.start()
    try:
        yield addresses.grpc
    finally:
        await app.stop()


@contextlib.contextmanager
def upstream(installed: Path) -> Generator[str, None, None]:
    with subprocess.Popen([installed / "bin/upstream"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  for the types
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextlib.asynccontextmanager
async def opened(installed: Path, target: str, streams: int) -> AsyncGenerator[None, None]:
    """Hold streams open, each after its first token."""
    command = [str(installed / "bin/streams"), "--model", payloads.HELD, "--target", target]
    command += ["--streams", str(streams), "--opening", "50", "--hold", f"{HOLD_S}s"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None  # noqa: S101  for the types
    if not json.loads(await process.stdout.readline()).get("open"):
        raise RuntimeError("bench/go/streams did not open all streams")
    try:
        yield
    finally:
        await process.communicate()


def _resident_kib() -> int:
    """Return the memory of this process only: its children include the load."""
    return procfs.resident_kib(Path("/proc/self/status").read_text(encoding="ascii"))


async def grown(installed: Path, address: str, streams: int) -> tuple[float, Counter[str]]:
    """Return KiB of growth per stream, and Python's bytes by owner if tracemalloc is tracing."""
    async with service(address) as target:
        async with opened(installed, target, WARM_STREAMS):
            pass
        gc.collect()
        before_kib = _resident_kib()
        snapshot = tracemalloc.take_snapshot() if tracemalloc.is_tracing() else None
        owned = Counter[str]()
        async with opened(installed, target, streams):
            gc.collect()
            grown_kib = (_resident_kib() - before_kib) / streams
            if snapshot is not None:
                for line in tracemalloc.take_snapshot().compare_to(snapshot, "filename"):
                    owned[owner(line.traceback[0].filename)] += line.size_diff
    return grown_kib, owned


async def measure(installed: Path, streams: int) -> str:
    with upstream(installed) as address:
        grown_kib, _ = await grown(installed, address, streams)
        tracemalloc.start()
        _, owned = await grown(installed, address, streams)
    kib = {name: owned[name] / streams / KIB for name, _ in (*OWNERS, (REST, ""))}
    kib["outside Python: gRPC's core, C libraries, fragmentation"] = grown_kib - sum(kib.values())
    lines = ["| part | KiB a stream |", "|---|---|"]
    lines += [f"| {name} | {size:.1f} |" for name, size in sorted(kib.items(), key=lambda item: -item[1])]
    return "\n".join((*lines, f"| **the growth of the process** | {grown_kib:.1f} |"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--installed", type=Path, default=Path(".bench"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.stdout.write(asyncio.run(measure(arguments.installed.resolve(), arguments.streams)) + "\n")


if __name__ == "__main__":
    main()
