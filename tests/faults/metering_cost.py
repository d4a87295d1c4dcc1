"""`make metering-cost`: the CPU time of a call with budgets and the ledger, beside the same call without them.

Two services run at the same time, and calls alternate between them in rounds. The figure is the ratio of the
medians of their CPU time a call, threads of the ledger included.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from grpc import aio

from support.app import request as chat_request
from support.command import running_command
from support.fleet import LOOPBACK
from support.tenants import Keys, bearer
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_sandbox import Sandbox, SandboxSettings

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
FAST = SandboxSettings(first_token_ms=0, tokens_per_second=0)
CONCURRENT = 8
CALLS = 400
"""Of a round."""
SETTLE_S = 1.5
"""After a round, until the ledger has written its rows."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
RATIO_MAX = 1.05
LIMITS = (
    "[default]\nbudget_usd_per_day = 1000\nbudget_usd_per_month = 10000\ntokens_per_minute = 1_000_000_000\n"
)


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


class Service:
    """A running service, and what its calls have cost."""

    def __init__(self, command, address, key):
        self.command = command
        self.metadata = bearer(key)
        self.channel = aio.insecure_channel(address)
        self.chat = service_grpc.ChatServiceStub(self.channel)
        self.costs_us = []

    async def round(self, calls, *, streams):
        before_s = cpu_s(self.command.process.pid)

        async def work(number):
            for _ in range(number):
                message = chat_request(model=MODEL, max_tokens=100)
                if streams:
                    async for _ in self.chat.StreamComplete(message, metadata=self.metadata):
                        pass
                else:
                    await self.chat.Complete(message, metadata=self.metadata)

        await asyncio.gather(*(work(calls // CONCURRENT) for _ in range(CONCURRENT)))
        await asyncio.sleep(SETTLE_S)
        self.costs_us.append((cpu_s(self.command.process.pid) - before_s) / calls * 1e6)


async def main(options):
    holds = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        key = Keys(root / "keys").create("acme")
        (root / "off.toml").write_text("[default]\n")
        (root / "on.toml").write_text(LIMITS)
        async with AsyncExitStack() as stack:
            sandbox = await stack.enter_async_context(Sandbox(FAST))
            environment = {"TOGETHER_BASE_URL": sandbox.base_url}
            services = {}
            for name, more in (
                ("off", ("--tenants-file", f"{root}/off.toml")),
                (
                    "on",
                    (
                        "--tenants-file",
                        f"{root}/on.toml",
                        "--usage-database",
                        f"sqlite:///{root}/usage.sqlite",
                    ),
                ),
            ):
                command = await stack.enter_async_context(
                    running_command(
                        *LOOPBACK, "--api-keys-file", f"{root}/keys", *more, environment=environment
                    )
                )
                banner = await command.wait_for_line("SERVING: gRPC")
                services[name] = Service(command, banner.partition("gRPC on ")[2].partition(",")[0], key)
            write(f"{options.rounds} rounds of {CALLS} calls each, {CONCURRENT} at a time\n")
            write("| calls | off, us a call | on, us a call | ratio | verdict |\n|---|---|---|---|---|")
            for streams in (False, True):
                for service in services.values():
                    service.costs_us.clear()
                for number in range(options.rounds + 1):
                    for service in services.values():
                        await service.round(CALLS, streams=streams)
                        if not number:
                            service.costs_us.clear()  # warm-up
                off, on = (statistics.median(service.costs_us) for service in services.values())
                held = on / off <= RATIO_MAX
                holds = holds and held
                kind = "streams" if streams else "unary"
                write(
                    f"| {kind} | {off:.0f} | {on:.0f} | {on / off:.3f} | {'holds' if held else 'does not hold'} |"
                )
            for service in services.values():
                await service.channel.close()
    return 0 if holds else 1


def write(line):
    print(line, flush=True)  # noqa: T201  the report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    sys.exit(asyncio.run(main(parser.parse_args())))
