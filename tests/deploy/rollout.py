"""Simulates a rollout: processes instead of pods, with the arguments of the manifests.

Replaces every pod like the Deployment: starts a new one, and stops an old one when the new one is ready.
Callers send calls meanwhile (load.py). Runs in the environment of the server: reads the plan from standard
input and writes the result to standard output, both as JSON. Knows nothing about manifests.
"""

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

from load import TIMEOUT_S, LoadResult, call_until, more_calls

from support.command import Command, running_command
from support.ports import reserved_address
from support.waiting import eventually

# The list of addresses is fixed, while the DNS name of a cluster returns new ones: so the client must
# reconnect to addresses that did not listen yet.
FAST_RECONNECT = (("grpc.max_reconnect_backoff_ms", 500),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    grpc: int
    admin: int

    def command_line(self, arguments: list[str]) -> list[str]:
        """Return the arguments with this pod's addresses: the last value of a flag counts."""
        return [
            *arguments,
            *("--grpc-listen", f"127.0.0.1:{self.grpc}", "--admin-listen", f"127.0.0.1:{self.admin}"),
            *("--http-listen", "off", "--health-listen", "127.0.0.1:0"),
        ]


async def roll_out(arguments: list[str], environment: dict[str, str], *, replicas: int) -> LoadResult:
    result, stop = LoadResult(), asyncio.Event()
    async with AsyncExitStack() as running:
        reserved = [running.enter_context(reserved_address()) for _ in range(4 * replicas)]
        ports = [int(address.rpartition(":")[2]) for address in reserved]
        pods = [Pod(grpc=grpc, admin=admin) for grpc, admin in zip(ports[::2], ports[1::2], strict=True)]
        target = "ipv4:" + ",".join(f"127.0.0.1:{pod.grpc}" for pod in pods)

        async def start(pod: Pod) -> Command:
            """Start a pod and wait until its health service is SERVING."""
            command = await running.enter_async_context(
                running_command(*pod.command_line(arguments), environment=environment)
            )
            await command.wait_for_line("SERVING")
            return command

        old = [await start(pod) for pod in pods[:replicas]]
        callers = asyncio.create_task(call_until(stop, target, result, channel_options=FAST_RECONNECT))
        for pod, stopping in zip(pods[replicas:], old, strict=True):
            await more_calls(result)
            await start(pod)
            stopping.signal(signal.SIGTERM)
        for stopping in old:
            await eventually(
                lambda stopping=stopping: stopping.process.returncode is not None, within_s=TIMEOUT_S
            )
            result.exit_statuses.append(await stopping.wait_for_exit())
        await more_calls(result)
        stop.set()
        await callers
    return result


if __name__ == "__main__":
    plan = json.load(sys.stdin)
    result = asyncio.run(roll_out(plan["arguments"], plan["environment"], replicas=plan["replicas"]))
    sys.stdout.write(json.dumps(asdict(result)))
