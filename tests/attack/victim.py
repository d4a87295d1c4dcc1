"""The service under attack: a process with 1,024 files, and what is measured of it.

Its memory is bounded as Kubernetes would bound it: beyond 1 GiB it is killed.
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from grpc import aio

import togetherchat
from support.command import ROOTS, Command
from support.ports import reserved_address
from support.tenants import Keys, bearer
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

FILES = 1024
MEMORY_MIB = 1024
SAMPLE_S = 0.02
PROBE_EVERY_S = 0.1
CALL_EVERY_S = 0.2
PROBE_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 10.0
SERVICE_CONFIG = Path(togetherchat.__file__).parent / "v1" / "service_config.json"
"""What every client of this project uses: among others, retries of calls that no server has handled."""
REQUEST = service.CompleteRequest(
    model="openai/gpt-oss-120b",
    max_tokens=4,
    messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="Hi")])],
)


@dataclass(kw_only=True)
class Victim:
    """A running service."""

    command: Command
    grpc: str
    http: str
    admin: str
    key: str

    @property
    def pid(self) -> int:
        return self.command.process.pid

    @property
    def alive(self) -> bool:
        return self.command.process.returncode is None

    def memory_mib(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(kw_only=True)
class Observed:
    """What was seen of the victim and of its honest callers during an attack."""

    start_mib: float
    peak_mib: float = 0.0
    killed: bool = False
    probes: int = 0
    worst_probe_s: float = 0.0
    failed_probes: int = 0
    calls: int = 0
    failed_calls: int = 0
    worst_call_s: float = 0.0
    causes: set[str] = field(default_factory=set)


@asynccontextmanager
async def victim(folder: Path, *flags: str):
    """Run the service with the sandbox as its provider in the same process, and a key for one tenant."""
    keys = Keys(folder / "keys", today="2029-06-01T00:00:00+00:00")
    key = keys.create("acme")
    keys.path.chmod(0o600)
    with reserved_address() as grpc, reserved_address() as http, reserved_address() as admin:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "togetherchat_server", "--sandbox", "--sandbox-tokens-per-second", "0",
            "--api-keys-file", str(keys.path), "--grpc-listen", grpc, "--http-listen", http,
            "--admin-listen", admin, "--log-format", "json", *flags,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(ROOTS)},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, limit=2**20, preexec_fn=_limit_files,
        )  # fmt: skip
        command = Command(process)
        try:
            await command.wait_for_line(" SERVING: ")
            yield Victim(command=command, grpc=grpc, http=http, admin=admin, key=key)
        finally:
            if process.returncode is None:
                process.kill()
            await command.wait_for_exit()


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


@asynccontextmanager
async def observed(victim: Victim):
    """Sample the victim's memory, probe it, and call it over gRPC and HTTP, while the context is open."""
    seen = Observed(start_mib=victim.memory_mib())
    service_config = SERVICE_CONFIG.read_text(encoding="utf-8")
    async with aio.insecure_channel(victim.grpc, [("grpc.service_config", service_config)]) as channel:
        chat_service = service_grpc.ChatServiceStub(channel)
        await chat_service.Complete(REQUEST, metadata=bearer(victim.key), timeout=CALL_TIMEOUT_S)
        http = await _HttpCaller.connected(victim)
        tasks = [
            asyncio.create_task(_sample_memory(victim, seen)),
            asyncio.create_task(_probe(victim, seen)),
            asyncio.create_task(
                _call(
                    seen,
                    "gRPC",
                    lambda: chat_service.Complete(
                        REQUEST, metadata=bearer(victim.key), timeout=CALL_TIMEOUT_S
                    ),
                )
            ),
            asyncio.create_task(_call(seen, "HTTP", http.complete)),
        ]
        try:
            yield seen
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await http.close()


async def _sample_memory(victim: Victim, seen: Observed) -> None:
    while victim.alive:
        with contextlib.suppress(OSError, IndexError):
            seen.peak_mib = max(seen.peak_mib, victim.memory_mib())
        if seen.peak_mib > MEMORY_MIB and not seen.killed:
            seen.killed = True
            victim.command.process.kill()
        await asyncio.sleep(SAMPLE_S)


async def _probe(victim: Victim, seen: Observed) -> None:
    host, _, port = victim.admin.rpartition(":")
    while True:
        began_s = time.monotonic()
        failed = True
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S), _connected(host, int(port)) as (reader, writer):
                writer.write(f"GET /healthz HTTP/1.1\r\nhost: {victim.admin}\r\n\r\n".encode())
                failed = b" 200 " not in await reader.readline()
        seen.probes += 1
        seen.failed_probes += failed
        seen.worst_probe_s = max(seen.worst_probe_s, time.monotonic() - began_s)
        await asyncio.sleep(PROBE_EVERY_S)


@asynccontextmanager
async def _connected(host: str, port: int):
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _call(seen: Observed, protocol: str, complete) -> None:
    while True:
        began_s = time.monotonic()
        try:
            await complete()
        except (aio.AioRpcError, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            seen.failed_calls += 1
            text = error.details() if isinstance(error, aio.AioRpcError) else repr(error)
            seen.causes.add(f"{protocol}: {text}"[:120])
        seen.calls += 1
        seen.worst_call_s = max(seen.worst_call_s, time.monotonic() - began_s)
        await asyncio.sleep(CALL_EVERY_S)


class _HttpCaller:
    """A client with one connection. It reconnects once if its idle connection was closed, as all clients do."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._stream = None

    @classmethod
    async def connected(cls, victim: Victim):
        caller = cls(victim)
        await caller.complete()
        return caller

    async def complete(self) -> None:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            reused = self._stream is not None
            try:
                await self._complete()
            except (OSError, asyncio.IncompleteReadError):
                await self.close()
                if not reused:
                    raise
                await self._complete()

    async def _complete(self) -> None:
        if self._stream is None:
            host, _, port = self._victim.http.rpartition(":")
            self._stream = await asyncio.open_connection(host, int(port))
        reader, writer = self._stream
        body = json.dumps(
            {"model": REQUEST.model, "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
        )
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self._victim.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"content-length: (\d+)", answer)
        await reader.readexactly(int(length[1]))
        if " 200 " not in answer.partition("\r\n")[0]:
            raise ValueError(answer.partition("\r\n")[0])

    async def close(self) -> None:
        if self._stream is not None:
            _, writer = self._stream
            self._stream = None
            await _closed(writer)
