"""Measures what gRPC's client-side health checking does to calls: `make measure-health-checking`.

Each scenario runs with health checking off and on, with the async Python client, and prints one row of
a table: the calls, how many failed, and the longest wait of a call. clients/README.md has the numbers of
one run, and what follows from them.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from support.certificates import make_certificate
from support.command import Command, running_command
from support.ports import reserved_address
from support.scripted_service import MODEL, ScriptedService, response_of, serving
from togetherchat_client import AsyncClient, Tls, TogetherChatError, connect_async
from togetherchat_client.health import CHAT_SERVICE

CALLERS: Final = 8
TIMEOUT_S: Final = 5.0
KEY: Final = "tc_measured"
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
DRAIN: Final = ("--drain-delay-s=2", "--drain-timeout-s=20")


@dataclass(slots=True)
class Result:
    """The calls of one run."""

    calls: int = 0
    longest_s: float = 0.0
    failures: list[str] = field(default_factory=list[str])

    def row(self) -> str:
        kinds = ", ".join(sorted(set(self.failures)))
        lost = f"{len(self.failures)} ({kinds})" if self.failures else "0"
        return f"{self.calls} | {lost} | {self.longest_s:.2f} s"


Scenario = Callable[[bool, Result], Awaitable[None]]


async def more_calls(client: AsyncClient, result: Result, *, seconds: float) -> None:
    """Run the callers for a time. Each makes one call after another."""
    ends = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(_calls_until(ends, client, result))


async def _calls_until(ends: float, client: AsyncClient, result: Result) -> None:
    while time.monotonic() < ends:
        begun = time.monotonic()
        try:
            await client.complete(MODEL, "echo: yes")
        except TogetherChatError as exc:
            result.failures.append(exc.reason or exc.code.name)
        result.calls += 1
        result.longest_s = max(result.longest_s, time.monotonic() - begun)


async def rollout(health_checking: bool, result: Result) -> None:
    """Two servers are replaced one after the other, each drained for two seconds."""
    async with AsyncExitStack() as running:
        addresses = [running.enter_context(reserved_address()) for _ in range(4)]
        old = [await _start(running, address) for address in addresses[:2]]
        target = "ipv4:" + ",".join(addresses)
        client = await running.enter_async_context(_client(target, health_checking=health_checking))
        await more_calls(client, result, seconds=1)
        for stopping, address in zip(old, addresses[2:], strict=True):
            await _start(running, address)
            stopping.signal(signal.SIGTERM)
            await more_calls(client, result, seconds=4)
        for stopping in old:
            await stopping.wait_for_exit()


async def draining(health_checking: bool, result: Result) -> None:
    """One of two servers reports NOT_SERVING to watches, two seconds before its GOAWAY."""
    async with AsyncExitStack() as running:
        health = [await _health(), await _health()]
        kept = await running.enter_async_context(serving(_service(), health=health[0]))
        leaving = AsyncExitStack()
        address = await leaving.enter_async_context(serving(_service(), health=health[1]))
        client = await running.enter_async_context(
            _client(f"ipv4:{kept},{address}", health_checking=health_checking)
        )
        await more_calls(client, result, seconds=1)
        await health[1].set(CHAT_SERVICE, NOT_SERVING)
        await more_calls(client, result, seconds=2)
        stopping = asyncio.create_task(leaving.aclose())
        await more_calls(client, result, seconds=2)
        await stopping


async def gateway(health_checking: bool, result: Result) -> None:
    """A gateway rejects every call without a key, Health/Watch too."""
    with TemporaryDirectory() as folder:
        made = make_certificate(Path(folder))
        pem = made.certificate_file.read_bytes()
        credentials = grpc.ssl_server_credentials([(made.key_file.read_bytes(), pem)])
        async with serving(_service(), health=_Guarded(), credentials=credentials) as address:
            target = address.replace("127.0.0.1", "localhost")
            async with _client(
                target, key=KEY, health_checking=health_checking, tls=Tls(root_certificates=pem)
            ) as client:
                await more_calls(client, result, seconds=2)


async def silent(health_checking: bool, result: Result) -> None:
    """A proxy never answers Health/Watch."""
    async with (
        serving(_service(), health=_Silent()) as target,
        _client(target, health_checking=health_checking) as client,
    ):
        await more_calls(client, result, seconds=2)


SCENARIOS: Final[tuple[Scenario, ...]] = (rollout, draining, gateway, silent)


class _Guarded(health_aio.HealthServicer):
    """A health service behind a gateway that wants a key."""

    async def Watch(self, request, context):  # noqa: N802  the RPC's name
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {KEY}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the gateway wants a key")
        await self.set(CHAT_SERVICE, SERVING)
        await super().Watch(request, context)


class _Silent(health_aio.HealthServicer):
    """A health service that never answers."""

    async def Watch(self, request, context):  # noqa: N802  the RPC's name and arguments
        await asyncio.Event().wait()


async def _health() -> health_aio.HealthServicer:
    health = health_aio.HealthServicer()
    await health.set(CHAT_SERVICE, SERVING)
    return health


def _service() -> ScriptedService:
    return ScriptedService(Complete=[[response_of("yes")]])


async def _start(running: AsyncExitStack, address: str) -> Command:
    command = await running.enter_async_context(
        running_command(
            "--sandbox", "--grpc-listen", address, "--admin-listen", "off", "--http-listen", "off", *DRAIN
        )
    )
    await command.wait_for_line("SERVING")
    return command


@asynccontextmanager
async def _client(
    target: str, *, health_checking: bool, key: str | None = None, tls: bool | Tls | None = None
) -> AsyncIterator[AsyncClient]:
    async with connect_async(
        target, key=key, timeout_s=TIMEOUT_S, tls=tls, health_checking=health_checking
    ) as client:
        yield client


async def main() -> None:
    sys.stdout.write(
        "| scenario | health checking | calls | failed | longest call |\n|---|---|---|---|---|\n"
    )
    for scenario in SCENARIOS:
        for health_checking in (False, True):
            result = Result()
            await scenario(health_checking, result)
            title = (scenario.__doc__ or "").rstrip(".")
            sys.stdout.write(f"| {title} | {'on' if health_checking else 'off'} | {result.row()} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
