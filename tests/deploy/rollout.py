"""A rollout acted out: processes in place of pods, with the words that the manifests give them.

Replaces every pod as the Deployment says it: a new one first, and an old one is told to end when
the new one is ready. Callers call all the while (load.py). Runs where the server is installed; the
plan comes on standard input and what happened goes out on standard output, both as JSON. Knows of
no manifest.
"""

import asyncio
import json
import signal
import socket
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

from load import PATIENCE_S, Seen, call_until, more_calls

from support.command import Command, running_command
from support.waiting import eventually

# The list of addresses is fixed here, where a cluster's name would bring new ones along: so the
# client has to come back to those that were not there yet.
COME_BACK = (("grpc.max_reconnect_backoff_ms", 500),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    rpc: int
    admin: int

    def words(self, given: list[str]) -> list[str]:
        """Those given, at addresses that are free on this machine: the last word on a flag counts."""
        return [
            *given,
            *("--grpc-listen", f"127.0.0.1:{self.rpc}", "--admin-listen", f"127.0.0.1:{self.admin}"),
            *("--http-listen", "off", "--health-listen", "127.0.0.1:0"),
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
            await command.wait_for_line("SERVING")
            return command

        old = [await start(pod) for pod in pods[:replicas]]
        callers = asyncio.create_task(call_until(enough, target, seen, channel_options=COME_BACK))
        for pod, leaving in zip(pods[replicas:], old, strict=True):
            await more_calls(seen)
            await start(pod)
            leaving.signal(signal.SIGTERM)
        for leaving in old:
            await eventually(
                lambda leaving=leaving: leaving.process.returncode is not None, within_s=PATIENCE_S
            )
            seen.ends.append(await leaving.wait_for_exit())
        await more_calls(seen)
        enough.set()
        await callers
    return seen


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
