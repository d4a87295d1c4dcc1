"""A Redis for the tests: the system's server, on a free port of the loopback, without files.

`make test-redis` runs this folder, and fetches the command `redis-server` if it is not installed.
"""

import asyncio
import os
import shutil
import socket
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from support.replicas import replica_store

REASONABLE_S = 20.0
PROGRAM = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
PASSWORD = "canary-of-redis"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A Redis that can be stopped, and started again at the same port without its data."""

    def __init__(self):
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--requirepass", PASSWORD,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with Redis.from_url(self.url) as client, asyncio.timeout(REASONABLE_S):
            while not await self._answers(client):
                assert None is self.process.returncode, "redis-server ended"
                await asyncio.sleep(0.02)

    async def stop(self):
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    @staticmethod
    async def _answers(client):
        try:
            return await client.ping()
        except (RedisError, OSError):
            return False


@asynccontextmanager
async def _running():
    server = Server()
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def redis():
    assert PROGRAM, "redis-server is not installed: apt install redis-server"
    async with _running() as server:
        yield server


@pytest.fixture
async def replicas(redis):
    """The quota stores of two replicas."""
    stores = [replica_store(redis) for _ in range(2)]
    yield stores
    for store in stores:
        await store.aclose()


@pytest.fixture
async def client(redis):
    """A client of the same Redis."""
    async with Redis.from_url(redis.url) as connected:
        yield connected
