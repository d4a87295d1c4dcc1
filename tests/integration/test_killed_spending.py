"""Budgets when a process is killed: what its attempts may cost counts, and the ledger has their rows."""

import asyncio
import os
import signal
import sqlite3
from contextlib import closing

import pytest
from grpc import aio

from support.app import request as chat_request
from support.command import running_command
from support.fleet import LOOPBACK, running_fleet
from support.tenants import Keys, bearer
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_sandbox import Sandbox, SandboxSettings

MODEL = "sandbox/stall-after-3"
FAST = SandboxSettings(first_token_ms=0, tokens_per_second=0)
TENANTS = f"""
[tenants.acme]
budget_usd_per_day = 1
[prices."{MODEL}"]
input_usd_per_million_tokens = 0.2
output_usd_per_million_tokens = 0.6
"""
MOST = 100 * 600
"""What the output of a call may cost, in 1e-9 USD."""
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


@pytest.fixture
def key(tmp_path):
    return Keys(tmp_path / "keys").create("acme")


@pytest.fixture
def flags(tmp_path):
    (tmp_path / "tenants.toml").write_text(TENANTS)
    return (
        "--api-keys-file", f"{tmp_path}/keys", "--tenants-file", f"{tmp_path}/tenants.toml",
        "--usage-database", f"sqlite:///{tmp_path}/usage.sqlite",
    )  # fmt: skip


def ledger(tmp_path):
    """The rows of the ledger: reason, estimated part and cost."""
    with closing(sqlite3.connect(tmp_path / "usage.sqlite")) as database:
        return database.execute(
            "SELECT reason, estimated_cost_nano_usd, cost_nano_usd FROM usage_calls ORDER BY reason"
        ).fetchall()


async def stalled_stream(address, key):
    """Open a stream on a connection of its own, and wait for its last token."""
    channel = aio.insecure_channel(address, options=OWN_CONNECTION)
    stream = service_grpc.ChatServiceStub(channel).StreamComplete(
        chat_request(model=MODEL, max_tokens=100), metadata=bearer(key)
    )
    async for event in stream:
        if event.HasField("delta"):
            break
    return channel


async def test_what_a_killed_process_had_reserved_counts_in_full_after_a_restart(tmp_path, flags, key):
    """The provider may bill it. The next process adds its row, once, however often it starts."""
    environment = {}
    async with Sandbox(FAST) as sandbox:
        environment["TOGETHER_BASE_URL"] = sandbox.base_url
        async with running_command(*LOOPBACK, *flags, environment=environment) as command:
            address = await address_of(command)
            channel = await stalled_stream(address, key)
            command.signal(signal.SIGKILL)
            await command.wait_for_exit()
            await channel.close()
        assert [] == ledger(tmp_path)
        for _ in range(2):
            async with running_command(*LOOPBACK, *flags, environment=environment) as command:
                await address_of(command)
                command.signal(signal.SIGTERM)
                await command.wait_for_exit()
        rows = ledger(tmp_path)

    ((reason, estimated, cost),) = rows
    assert "PROCESS_KILLED" == reason
    assert sandbox.bill.nano_usd < cost == estimated
    assert cost > MOST


async def address_of(command):
    banner = await command.wait_for_line("SERVING: gRPC")
    return banner.partition("gRPC on ")[2].partition(",")[0]


async def test_what_a_killed_worker_had_reserved_counts_in_full_for_the_others(tmp_path, flags, key):
    """At once, and with its row as soon as another worker has replaced it."""
    async with (
        Sandbox(FAST) as sandbox,
        running_fleet(*flags, base_url=sandbox.base_url) as fleet,
    ):
        before = await fleet.wait_until_serving()
        channels = [await stalled_stream(fleet.grpc, key) for _ in range(8)]
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        await fleet.wait_until_serving(without={victim})
        await eventually(lambda: ledger(tmp_path))
        await asyncio.gather(*(channel.close() for channel in channels))
        await eventually(lambda: len(ledger(tmp_path)) == 8)
        rows = ledger(tmp_path)

    killed = [row for row in rows if row[0] == "PROCESS_KILLED"]
    left = [row for row in rows if row[0] != "PROCESS_KILLED"]
    assert len(killed) + len(left) == 8
    assert killed
    assert all(cost == estimated > MOST for _, estimated, cost in killed)
    assert all(cost < MOST for _, _, cost in left)
