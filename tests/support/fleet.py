"""Runs the service with several workers, and observes its processes."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

from support.command import REASONABLE_S, running_command
from support.http_client import get_page

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


class RunningFleet:
    """A supervisor and its workers. The addresses are read from the supervisor's banner."""

    def __init__(self, command, banner):
        self.command = command
        self.banner = banner
        self.grpc, self.health, self.admin = (
            banner.partition(prefix)[2].partition(",")[0]
            for prefix in ("gRPC on ", "health on ", "admin on http://")
        )

    @property
    def pid(self):
        return self.command.process.pid

    async def page(self, path):
        return await get_page(self.admin, path)

    async def processes(self, role="worker"):
        """Return the rows of `/workers` with this role."""
        page = await self.page("/workers")
        return [row for row in json.loads(page.text)["processes"] if row["role"] == role]

    async def wait_for(self, condition, role="worker"):
        """Wait until the rows of `/workers` meet the condition. Return the rows."""
        async with asyncio.timeout(REASONABLE_S):
            while not condition(rows := await self.processes(role)):  # noqa: ASYNC110  polled over HTTP
                await asyncio.sleep(0.02)
        return rows

    async def wait_until_serving(self, *, without=frozenset()):
        """Wait until two workers serve and none has a pid in `without`. Return their pids."""

        def both_serve(rows):
            pids = {row.get("pid") for row in rows}
            return (
                {"serving"} == {row["state"] for row in rows} and len(pids) == 2 and not pids & set(without)
            )

        return {row["pid"] for row in await self.wait_for(both_serve)}

    def loaded_libraries(self, *libraries):
        """Return those of `libraries` that the supervisor has loaded."""
        mapped = Path(f"/proc/{self.pid}/maps").read_text(encoding="utf-8")
        return [name for name in libraries if name in mapped]

    async def pids(self):
        """Return the pids of all running processes that the supervisor has started."""
        rows = [*await self.processes(), *await self.processes("sandbox")]
        return {row["pid"] for row in rows if "pid" in row}

    def finished_calls(self, *, since):
        """Return the code and reason of each call record in the log, from line `since` on."""
        lines = [json.loads(line) for line in self.command.lines[since:] if line.startswith("{")]
        return [(line["code"], line.get("reason", "")) for line in lines if line["event"] == "call"]


@asynccontextmanager
async def running_fleet(*arguments, base_url=None, environment=None):
    """Run two workers with the provider at `base_url`, or with the sandbox."""
    source = ("--upstream-credentials", "server") if base_url else SANDBOX
    environment = {**({"TOGETHER_BASE_URL": base_url} if base_url else {}), **(environment or {})}
    async with running_command(
        *LOOPBACK, "--workers", "2", *source, *arguments, environment=environment
    ) as command:
        fleet = RunningFleet(command, await command.wait_for_line("SERVING: gRPC"))
        await fleet.wait_until_serving()
        yield fleet


def is_alive(pid):
    """Return whether a process is running. A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
