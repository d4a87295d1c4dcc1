"""The service as a process with a usage ledger, and callers that remember which calls they completed."""

import asyncio
import itertools
import re
import resource
from contextlib import asynccontextmanager

from grpc import aio

from support.app import request
from support.command import REASONABLE_S, running_command
from support.scraping import scraped
from support.waiting import poll
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.telemetry.metrics import definitions as names

SERVICE = (
    "--sandbox", "--sandbox-tokens-per-second", "0", "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
    "--log-format", "json",
)  # fmt: skip
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
AWAY = "the database is unavailable"
BACK = "the database is available again"
KILLED = re.compile(
    r"a process was killed: (\d+) rows of its last moments are lost, and (\d+) calls in flight"
)
_numbers = itertools.count(1)


class LedgerService:
    """A running process."""

    def __init__(self, command, banner):
        self.command = command
        self.grpc, self.admin = (
            banner.partition(prefix)[2].partition(",")[0] for prefix in ("gRPC on ", "admin on http://")
        )

    @property
    def pid(self):
        return self.command.process.pid

    def signal(self, number):
        self.command.signal(number)

    async def metric(self, name, **labels):
        return (await scraped(self.admin)).value(name, **labels)

    async def metric_reaches(self, name, condition, **labels):
        """Wait until the metric meets the condition."""

        async def reached():
            return condition(await self.metric(name, **labels)) or None

        await poll(reached, within_s=REASONABLE_S)

    async def when_written(self):
        """Wait until no row waits, and the database is available."""
        await self.metric_reaches(names.USAGE_LEDGER_LAG, lambda lag_s: lag_s == 0)
        await self.metric_reaches(names.USAGE_LEDGER_UP, lambda up: up == 1)

    def limit_files(self, bytes_max):
        """Let every write beyond this size of a file fail, as on a full disk; None: no limit."""
        limit = resource.RLIM_INFINITY if bytes_max is None else bytes_max
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def lines(self, text):
        return [line for line in self.command.lines if text in line]

    def lost_by_kill(self):
        """Return the lost rows and the calls in flight that the log reports."""
        found = [KILLED.search(line) for line in self.lines("a process was killed")]
        return sum(int(one[1]) for one in found), sum(int(one[2]) for one in found)


@asynccontextmanager
async def ledger_service(database, spill_dir, *arguments, environment=None):
    """Run the service with a ledger."""
    ledger = ("--usage-database", database, "--usage-spill-dir", str(spill_dir))
    async with running_command(*SERVICE, *ledger, *arguments, environment=environment) as command:
        yield LedgerService(command, await command.wait_for_line("SERVING: gRPC"))


class Callers:
    """Callers that make one call after the other, each with an id of its own."""

    def __init__(self, address, number, connections):
        self.started = []
        self.completed = []
        """Ids of calls whose caller has the response."""
        self._address = address
        self._connections = connections
        self._stopping = False
        self._tasks = [asyncio.create_task(self._call_on(index % connections)) for index in range(number)]
        self._channels = [aio.insecure_channel(address, options=OWN_CONNECTION) for _ in range(connections)]

    async def completes(self, number):
        """Wait until that many more calls have completed."""
        wanted = len(self.completed) + number

        async def reached():
            return len(self.completed) >= wanted or None

        await poll(reached, within_s=REASONABLE_S)

    async def stop(self):
        """Let the calls in progress end, and close."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        for channel in self._channels:
            await channel.close()

    async def _call_on(self, connection):
        await asyncio.sleep(0)
        chat = service_grpc.ChatServiceStub(self._channels[connection])
        while not self._stopping:
            call_id = f"call-{next(_numbers)}"
            self.started.append(call_id)
            try:
                await chat.Complete(request(model="sandbox/fast"), metadata=[("x-request-id", call_id)])
            except aio.AioRpcError:
                await asyncio.sleep(0.02)  # the service was killed, or the connection of a killed worker
            else:
                self.completed.append(call_id)


@asynccontextmanager
async def calling(address, number=4, *, connections=1):
    """Make calls while the context is open."""
    callers = Callers(address, number, connections)
    try:
        yield callers
    finally:
        await callers.stop()


async def complete_calls(address, number):
    """Make some calls, one after the other; return their ids."""
    async with aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
        chat = service_grpc.ChatServiceStub(channel)
        ids = [f"call-{next(_numbers)}" for _ in range(number)]
        for call_id in ids:
            await chat.Complete(request(model="sandbox/fast"), metadata=[("x-request-id", call_id)])
    return ids
