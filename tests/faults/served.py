"""The service in a process of its own, so that its memory, CPU and log can be measured apart."""

import asyncio
import json
import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from grpc import aio

from support.app import CANARY_KEY
from support.command import Command, running_command
from support.ports import reserved_address
from support.scraping import scraped
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

RETRIES_OFF = (("grpc.enable_retries", 0),)


@dataclass(kw_only=True)
class Served:
    """A running process."""

    command: Command
    address: str
    admin: str
    channel: aio.Channel
    chat: service_grpc.ChatServiceStub

    @property
    def pid(self):
        return self.command.process.pid

    def lines(self, event):
        """The lines logged so far: `call` for call records, `log` for the rest."""
        lines = [json.loads(line) for line in self.command.lines if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    async def metrics(self):
        """Its current metrics."""
        return await scraped(self.admin)

    def descriptors(self):
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory_mib(self):
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_s(self):
        """CPU time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def served(base_url, *flags, environment=None, stderr=asyncio.subprocess.PIPE):
    """Run `togetherchat-server` in front of `base_url`, with a channel to it."""
    key = {} if environment else {"TOGETHER_API_KEY": CANARY_KEY}
    variables = {"TOGETHER_BASE_URL": base_url, **key, **(environment or {})}
    with reserved_address() as listen, reserved_address() as admin:
        flags = ("--grpc-listen", listen, "--admin-listen", admin, "--log-format", "json", *flags)
        async with running_command(*flags, environment=variables, stderr=stderr) as command:
            if stderr == asyncio.subprocess.PIPE:
                banner = await command.wait_for_line(" SERVING: ")
                assert re.search(rf"gRPC on {re.escape(listen)}\b", banner)
            async with aio.insecure_channel(listen, options=RETRIES_OFF) as channel:
                async with asyncio.timeout(60):
                    await channel.channel_ready()
                chat = service_grpc.ChatServiceStub(channel)
                yield Served(command=command, address=listen, admin=admin, channel=channel, chat=chat)
