"""Several workers as processes: serving, failures, restarts and shutdown."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import grpc
import pytest
import pytest_asyncio
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.app import collect, request
from support.command import ROOTS, running_command
from support.fleet import LOOPBACK, SANDBOX, is_alive, running_fleet
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import paused_sse
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_client.channel import service_config

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESTORED_S = 5.0
"""The documented bound for the replacement of a killed worker."""
HEARTBEAT_TIMEOUT = ("--worker-heartbeat-timeout-s", "3")
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
NO_RETRIES = (OWN_CONNECTION, ("grpc.enable_retries", 0))
# gRPC's core fails a call that crosses its GOAWAY with a bare CANCELLED: see docs/workers.md.
SHIPPED = (OWN_CONNECTION, ("grpc.service_config", service_config()))


@asynccontextmanager
async def held_streams(*arguments):
    """Run a fleet whose streams wait for the event after their first word."""
    released = asyncio.Event()
    async with (
        ScriptedUpstream(always(paused_sse(released))) as upstream,
        running_fleet(*arguments, base_url=upstream.base_url) as fleet,
        AsyncExitStack() as connections,
    ):
        yield fleet, released, connections


async def connected(fleet, connections, options=NO_RETRIES):
    channel = await connections.enter_async_context(aio.insecure_channel(fleet.grpc, options=options))
    return service_grpc.ChatServiceStub(channel)


async def started(chat):
    """Start a stream and read its first message."""
    call = chat.StreamComplete(request())
    await anext(aiter(call))
    return call


async def streams_on_every_worker(fleet, connections):
    """Open connections, each with a held stream, until both workers have some."""
    chats, calls = [], []
    for _ in range(4):
        chats += [await connected(fleet, connections) for _ in range(8)]
        calls += [await started(chat) for chat in chats[len(calls) :]]
        rows = await fleet.wait_for(partial(in_flight, len(calls)))
        if all(row["in_flight"] for row in rows):
            return chats, calls, {row["pid"]: row["in_flight"] for row in rows}
    raise AssertionError(f"one worker got every connection: {rows}")


def in_flight(number, rows):
    """Return whether the workers report that many calls in total."""
    return number == sum(row["in_flight"] for row in rows)


async def status_codes(calls):
    """Return the status code of every stream when it has ended."""
    failures = [failure for _, failure in await asyncio.gather(*map(collect, calls))]
    return [failure.code if failure else grpc.StatusCode.OK for failure in failures]


async def all_gone(pids):
    await eventually(lambda: not any(map(is_alive, pids)), within_s=15)


def is_free(address):
    """Return whether a server without SO_REUSEPORT could listen there."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
            probe.listen()
        except OSError:
            return False
    return True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_fleet():
    """A fleet with the sandbox, for all tests that leave it running."""
    async with running_fleet(*HEARTBEAT_TIMEOUT) as fleet:
        yield fleet


async def test_a_killed_worker_fails_only_its_own_streams_and_is_replaced():
    """Its streams fail with UNAVAILABLE, the other worker's do not, and every later call succeeds."""
    start = time.monotonic()
    async with held_streams() as (fleet, released, connections):
        started_s = time.monotonic() - start
        chats, calls, shares = await streams_on_every_worker(fleet, connections)
        victim, its_streams = next(iter(shares.items()))
        killed_at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        await fleet.wait_until_serving(without={victim})
        restored_s = time.monotonic() - killed_at
        released.set()
        codes = await status_codes(calls)
        after = await status_codes([chat.StreamComplete(request()) for chat in chats])
        rows = await fleet.processes()

    assert its_streams == codes.count(grpc.StatusCode.UNAVAILABLE)
    assert len(calls) - its_streams == codes.count(grpc.StatusCode.OK)
    assert {grpc.StatusCode.OK} == set(after)
    # On a machine so busy that the first start was slow, the second is slow too.
    assert restored_s < max(RESTORED_S, 2 * started_s)
    assert 1 == sum(row["restarts"] for row in rows)
    assert "was terminated by SIGKILL; restarting in 0.1 s" in fleet.command.error_text


async def test_a_worker_that_hangs_is_replaced(shared_fleet):
    """A stopped process keeps its connections and sends no heartbeat, so it is killed."""
    victim = min(await shared_fleet.wait_until_serving())
    os.kill(victim, signal.SIGSTOP)
    await shared_fleet.command.wait_for_line("sent no heartbeat for 3 s: killed")
    pids = await shared_fleet.wait_until_serving(without={victim})

    assert not is_alive(victim)
    assert 2 == len(pids)


async def test_a_killed_sandbox_is_restarted_at_its_address(shared_fleet):
    """The workers share one sandbox, which is supervised like them."""
    (sandbox,) = await shared_fleet.processes("sandbox")
    os.kill(sandbox["pid"], signal.SIGKILL)
    await shared_fleet.wait_for(lambda rows: is_replaced(rows[0], sandbox), "sandbox")
    async with AsyncExitStack() as connections:
        chat = await connected(shared_fleet, connections)
        answer = await chat.Complete(request("echo: hi"))

    assert "hi" == answer.choices[0].message.content[0].text


def is_replaced(row, before):
    return row["state"] == "serving" and row["pid"] != before["pid"]


async def test_the_supervisor_serves_the_admin_port_and_loads_no_grpc(shared_fleet):
    """One banner, health from the workers, and no gRPC library in the process."""
    pids = await shared_fleet.wait_until_serving()
    pages = [await shared_fleet.page(path) for path in ("/healthz", "/readyz", "/version", "/workers")]
    async with aio.insecure_channel(shared_fleet.health) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

    assert [200] * 4 == [page.status for page in pages]
    assert shared_fleet.pid == json.loads(pages[3].text)["supervisor"]
    assert shared_fleet.pid not in pids
    assert health_pb2.HealthCheckResponse.SERVING == health.status
    assert "2 workers" in shared_fleet.banner
    assert 1 == shared_fleet.command.error_text.count("SERVING: gRPC")
    assert [] == shared_fleet.loaded_libraries("cygrpc", "httptools")


async def test_only_the_supervisor_is_in_the_process_group_of_the_terminal(shared_fleet):
    """Ctrl-C signals a whole group. Workers that received it twice would abort their calls."""
    groups = {os.getpgid(pid) for pid in await shared_fleet.pids()}

    assert 3 == len(groups)
    assert os.getpgid(shared_fleet.pid) not in groups


async def test_no_module_of_the_supervisor_loads_grpc_or_an_http_client():
    """A process that has loaded gRPC must not start others, and would start slowly."""
    roles = "togetherchat_server.__main__, togetherchat_server.cli.main, togetherchat_server.supervisor.supervisor"
    unwanted = "{'grpc', 'starlette', 'httpx', 'togetherchat_server.runtime.app', 'togetherchat_sandbox'}"
    script = f"import sys, {roles}; print(sorted({unwanted} & set(sys.modules)))"
    environment = {"PYTHONPATH": os.pathsep.join(ROOTS)}

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()

    assert b"[]\n" == out


@pytest.mark.parametrize("workers", ["1", "2", "auto"])
async def test_a_second_server_on_the_port_is_rejected(workers, reserved_address):
    """With SO_REUSEPORT the second server would receive half of the connections. Instead it exits with one line."""
    listen = ("--grpc-listen", reserved_address, "--admin-listen", "off")
    async with running_command(*SANDBOX, *listen, "--workers", workers) as second:
        status = await second.wait_for_exit()

    assert 1 == status
    assert 1 == len(second.lines)
    assert second.lines[0].startswith("togetherchat-server: cannot serve: ")
    assert reserved_address in second.lines[0]


@pytest.fixture(scope="module")
def reserved_address():
    """An address that a supervisor has reserved, before any worker listens."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


async def test_sigterm_finishes_the_streams_of_every_worker():
    """The fleet is not ready at once, but alive. The exit status is 0, and no process is left."""
    async with held_streams() as (fleet, released, connections):
        _, calls, _ = await streams_on_every_worker(fleet, connections)
        pids = await fleet.pids()
        fleet.command.signal(signal.SIGTERM)
        await fleet.wait_for(lambda rows: {"stopping"} == {row["state"] for row in rows})
        readiness, liveness = await fleet.page("/readyz"), await fleet.page("/healthz")
        released.set()
        codes = await status_codes(calls)
        status = await fleet.command.wait_for_exit()

    assert {grpc.StatusCode.OK} == set(codes)
    assert (503, 200) == (readiness.status, liveness.status)
    assert 0 == status
    assert not any(map(is_alive, pids))
    assert is_free(fleet.grpc)


async def test_a_second_sigterm_aborts_calls_in_flight():
    """They fail with DRAINING on every worker."""
    async with held_streams() as (fleet, _, connections):
        _, calls, _ = await streams_on_every_worker(fleet, connections)
        fleet.command.signal(signal.SIGTERM)
        await fleet.wait_for(lambda rows: {"stopping"} == {row["state"] for row in rows})
        fleet.command.signal(signal.SIGTERM)
        failures = [failure for _, failure in await asyncio.gather(*map(collect, calls))]
        status = await fleet.command.wait_for_exit()

    assert {"DRAINING"} == {failure.info.reason for failure in failures}
    assert 0 == status


async def test_a_killed_supervisor_leaves_no_orphan():
    """The workers and the sandbox let their calls continue for a moment, exit, and free the port."""
    async with running_fleet() as fleet, AsyncExitStack() as connections:
        chat = await connected(fleet, connections)
        call = chat.StreamComplete(request(model="sandbox/stall-after-3"))
        await anext(aiter(call))
        pids = await fleet.pids()
        os.kill(fleet.pid, signal.SIGKILL)
        _, failure = await collect(call)
        await all_gone(pids)

    assert 3 == len(pids)
    assert "DRAINING" == failure.info.reason
    assert is_free(fleet.grpc)


async def test_a_rolling_restart_under_load_loses_no_call(shared_fleet):
    """SIGHUP replaces every worker. Every stream is complete, and every call of a constant load succeeds."""
    stop = asyncio.Event()
    logged = len(shared_fleet.command.lines)
    before = await shared_fleet.wait_until_serving()
    async with AsyncExitStack() as connections:
        chats = [await connected(shared_fleet, connections, SHIPPED) for _ in range(6)]
        long = [chat.StreamComplete(request("count", model="sandbox/slow", max_tokens=5)) for chat in chats]
        load = [asyncio.create_task(complete_until(stop, chat)) for chat in chats]
        shared_fleet.command.signal(signal.SIGHUP)
        codes = await status_codes(long)
        after = await shared_fleet.wait_until_serving(without=before)
        stop.set()
        completed = [await task for task in load]

    assert {grpc.StatusCode.OK} == set(codes)
    assert min(completed) > 0
    assert not before & after
    assert {("OK", "")} == set(shared_fleet.finished_calls(since=logged))


async def test_a_rolling_restart_logs_no_error_with_an_http_listener():
    """A worker that stops closes its HTTP listener before the drain, and asyncio does not accept on it."""
    async with running_fleet("--http-listen", "127.0.0.1:0") as fleet:
        before = await fleet.wait_until_serving()
        fleet.command.signal(signal.SIGHUP)
        await fleet.wait_until_serving(without=before)

    assert [] == [line for line in fleet.command.lines if '"level":"error"' in line]


async def complete_until(stop, chat):
    """Send one call after the other. Return the number of completions."""
    completed = 0
    while not stop.is_set():
        await chat.Complete(request("echo: hi"))
        completed += 1
    return completed


async def test_workers_that_cannot_start_end_the_supervisor(tmp_path):
    """After three failed starts the supervisor exits with the reason. Here gRPC cannot be imported, which the supervisor never does."""
    (tmp_path / "grpc.py").write_text("raise SystemExit(7)\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *ROOTS])}
    arguments = (*LOOPBACK, *SANDBOX, "--workers", "2")
    async with running_command(*arguments, environment=environment) as command:
        status = await command.wait_for_exit()

    assert 1 == status
    assert "togetherchat-server: the workers cannot start: exited with status 7" == command.lines[-1]
    assert not [line for line in command.lines if "SERVING" in line]
