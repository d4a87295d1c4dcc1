"""A rollout acted out: processes in place of pods, with the words that the manifests give them.

Replaces every pod as the Deployment says it: a new one first, and an old one is told to end when
the new one is ready. Callers, with the client of this project and its service config, call all the
while. Runs where the server is installed; the plan comes on standard input and what happened goes
out on standard output, both as JSON. Knows of no manifest.
"""

import asyncio
import json
import signal
import socket
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field

from support.command import Command, running_command
from support.patience import eventually
from togetherchat_client import TogetherChatError, connect_async, text_of

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
ASKING, STREAMING = 6, 6
# At the simulator's pace longer than the propagation: streams that run at the signal need the drain.
LONG = " ".join(str(number) for number in range(500))
CALLS_BETWEEN = 40
PATIENCE_S = 120.0
# The list of addresses is fixed here, where a cluster's name would bring new ones along: so the
# client has to come back to those that were not there yet.
COME_BACK = (("grpc.max_reconnect_backoff_ms", 500),)


@dataclass(slots=True)
class Seen:
    """What callers saw, and how the pods ended."""

    answered: int = 0
    streamed: int = 0
    lost: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return self.answered + self.streamed + len(self.lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    rpc: int
    admin: int

    def words(self, given: list[str]) -> list[str]:
        """Those given, at addresses that are free on this machine: the last word on a flag counts."""
        return [
            *given,
            *("--listen", f"127.0.0.1:{self.rpc}", "--admin", f"127.0.0.1:{self.admin}"),
            *("--http", "off", "--health", "127.0.0.1:0"),
        ]


async def roll_out(words: list[str], environment: dict[str, str], *, replicas: int) -> Seen:
    ports = _free_ports(4 * replicas)
    pods = [Pod(rpc=rpc, admin=admin) for rpc, admin in zip(ports[::2], ports[1::2], strict=True)]
    target = "ipv4:" + ",".join(f"127.0.0.1:{pod.rpc}" for pod in pods)
    seen, enough = Seen(), asyncio.Event()
    async with AsyncExitStack() as running:

        async def start(pod: Pod) -> Command:
            """One that is ready: it says so when its health service does."""
            command = await running.enter_async_context(
                running_command(*pod.words(words), environment=environment)
            )
            await command.said("SERVING")
            return command

        old = [await start(pod) for pod in pods[:replicas]]
        callers = asyncio.create_task(_call_until(enough, target, seen))
        for pod, leaving in zip(pods[replicas:], old, strict=True):
            await _more_calls(seen)
            await start(pod)
            leaving.signal(signal.SIGTERM)
        for leaving in old:
            await eventually(
                lambda leaving=leaving: leaving.process.returncode is not None, within_s=PATIENCE_S
            )
            seen.ends.append(await leaving.ended())
        await _more_calls(seen)
        enough.set()
        await callers
    return seen


async def _call_until(enough: asyncio.Event, target: str, seen: Seen) -> None:
    async with (
        connect_async(target, timeout_s=PATIENCE_S, channel_options=COME_BACK) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(ASKING + STREAMING):
            group.create_task(_call(enough, client, seen, streaming=number < STREAMING))


async def _call(enough: asyncio.Event, client, seen: Seen, *, streaming: bool) -> None:
    while not enough.is_set():
        try:
            if streaming:
                async with client.stream(MODEL, f"echo: {LONG}", max_tokens=4000) as stream:
                    got = "".join([text async for text in stream.text()])
                _note(seen, got, LONG)
                seen.streamed += 1
            else:
                _note(seen, text_of(await client.complete(MODEL, "echo: yes", max_tokens=100)), "yes")
                seen.answered += 1
        except TogetherChatError as exc:
            seen.lost.append(f"{exc.code} {exc.reason} {exc}")


def _note(seen: Seen, got: str, wanted: str) -> None:
    if got != wanted:
        seen.lost.append(f"came as {got[:80]!r}")


async def _more_calls(seen: Seen) -> None:
    wanted = seen.calls + CALLS_BETWEEN
    await eventually(lambda: seen.calls >= wanted, within_s=PATIENCE_S)


def _free_ports(count: int) -> list[int]:
    """Different ones, since all are held until all are known."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in taken]
    for it in taken:
        it.close()
    return ports


if __name__ == "__main__":
    plan = json.load(sys.stdin)
    happened = asyncio.run(roll_out(plan["words"], plan["environment"], replicas=plan["replicas"]))
    sys.stdout.write(json.dumps(asdict(happened)))
