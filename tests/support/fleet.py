"""The service with several workers, as processes: what they are, where, and whether they live."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

from support.command import REASONABLE_S, running_command

LOOPBACK = (
    "--grpc-listen",
    "127.0.0.1:0",
    "--admin-listen",
    "127.0.0.1:0",
    "--health-listen",
    "127.0.0.1:0",
    "--log-format",
    "json",
)
SANDBOX = ("--sandbox", "--sandbox-tokens-per-second", "0")


class Fleet:
    """A supervisor and its workers, found by the line in which it says that it serves."""

    def __init__(self, command, greeting):
        self.command = command
        self.greeting = greeting
        self.rpc, self.health, self.admin = (
            greeting.partition(words)[2].partition(",")[0]
            for words in ("gRPC on ", "health on ", "admin on http://")
        )

    @property
    def pid(self):
        return self.command.process.pid

    async def page(self, path):
        """The status and the body of a page of the admin port."""
        host, _, port = self.admin.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split(b" ")[1]), body.decode()

    async def processes(self, role="worker"):
        """The rows of `/workers`."""
        _, body = await self.page("/workers")
        return [row for row in json.loads(body)["processes"] if row["role"] == role]

    async def when(self, agreed, role="worker"):
        """Wait until the rows of `/workers` are as wanted; those rows."""
        async with asyncio.timeout(REASONABLE_S):
            while not agreed(rows := await self.processes(role)):  # noqa: ASYNC110  asked over HTTP
                await asyncio.sleep(0.02)
        return rows

    async def all_serve(self, *, without=frozenset()):
        """Wait until there are two workers, both serve, and none is one of those; their pids."""

        def agreed(rows):
            pids = {row.get("pid") for row in rows}
            return (
                {"serving"} == {row["state"] for row in rows} and len(pids) == 2 and not pids & set(without)
            )

        return {row["pid"] for row in await self.when(agreed)}

    def loaded(self, *libraries):
        """Which of these the supervisor has in its memory."""
        mapped = Path(f"/proc/{self.pid}/maps").read_text(encoding="utf-8")
        return [name for name in libraries if name in mapped]

    async def pids(self):
        """Every process that the supervisor has started and that lives."""
        rows = [*await self.processes(), *await self.processes("sandbox")]
        return {row["pid"] for row in rows if "pid" in row}

    def ended_calls(self, *, since):
        """The codes and reasons of the call records in the log, from a line on."""
        lines = [json.loads(line) for line in self.command.lines[since:] if line.startswith("{")]
        return [(line["code"], line.get("reason", "")) for line in lines if line["event"] == "call"]


@asynccontextmanager
async def running_fleet(*words, base_url=None, environment=None):
    """Two workers in front of `base_url`, or of the simulator where there is none."""
    source = ("--upstream-credentials", "server") if base_url else SANDBOX
    environment = {**({"TOGETHER_BASE_URL": base_url} if base_url else {}), **(environment or {})}
    async with running_command(
        *LOOPBACK, "--workers", "2", *source, *words, environment=environment
    ) as command:
        fleet = Fleet(command, await command.said("SERVING: gRPC"))
        await fleet.all_serve()
        yield fleet


def lives(pid):
    """Whether a process is there; one that ended and was not waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
