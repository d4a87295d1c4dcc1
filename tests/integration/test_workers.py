"""Several workers as processes: who answers, what a death costs, how all of them end."""

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
from support.fleet import LOOPBACK, SANDBOX, lives, running_fleet
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, chunk, sse_head
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_client.channel import service_config

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESTORED_S = 5.0
"""What is promised for the return of a worker that was killed."""
SILENCE = ("--worker-heartbeat-timeout-s", "3")
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
NO_RETRIES = (OWN_CONNECTION, ("grpc.enable_retries", 0))
# gRPC's core answers a call that crosses its GOAWAY with a bare CANCELLED: see docs/workers.md.
SHIPPED = (OWN_CONNECTION, ("grpc.service_config", service_config()))


def event(text, finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    body = json.dumps({"id": "oid-1", "created": 1, "model": "m", "choices": [choice]})
    return chunk(b"data: " + body.encode() + b"\n\n")


def streaming_until(released):
    """A stream that says one word, waits, and says the rest."""
    end = event("there", "stop") + chunk(b"data: [DONE]\n\n") + chunk(b"")
    return always((Send(sse_head() + event("Hi ")), Pause(released), Send(end)))


@asynccontextmanager
async def held_streams(*words):
    """A fleet whose streams wait for the event after their first word."""
    released = asyncio.Event()
    async with (
        ScriptedUpstream(streaming_until(released)) as upstream,
        running_fleet(*words, base_url=upstream.base_url) as fleet,
        AsyncExitStack() as connections,
    ):
        yield fleet, released, connections


async def connected(fleet, connections, options=NO_RETRIES):
    channel = await connections.enter_async_context(aio.insecure_channel(fleet.rpc, options=options))
    return service_grpc.ChatServiceStub(channel)


async def begun(chat):
    """A stream that has given its first message."""
    call = chat.StreamComplete(request())
    await anext(aiter(call))
    return call


async def streams_on_every_worker(fleet, connections):
    """Connections, each with a stream that waits; as many as it takes until both workers have some."""
    chats, calls = [], []
    for _ in range(4):
        chats += [await connected(fleet, connections) for _ in range(8)]
        calls += [await begun(chat) for chat in chats[len(calls) :]]
        rows = await fleet.when(partial(hold, len(calls)))
        if all(row["in_flight"] for row in rows):
            return chats, calls, {row["pid"]: row["in_flight"] for row in rows}
    raise AssertionError(f"one worker got every connection: {rows}")


def hold(number, rows):
    """Whether the workers report so many calls between them."""
    return number == sum(row["in_flight"] for row in rows)


async def endings(calls):
    """The code of every stream, once it has ended."""
    failures = [failure for _, failure in await asyncio.gather(*map(collect, calls))]
    return [failure.code if failure else grpc.StatusCode.OK for failure in failures]


async def all_gone(pids):
    await eventually(lambda: not any(map(lives, pids)), within_s=15)


def is_free(address):
    """Whether a server that shares with nobody could listen there."""
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
async def lasting():
    """A fleet in front of the simulator for all tests that leave it whole."""
    async with running_fleet(*SILENCE) as fleet:
        yield fleet


async def test_a_killed_worker_fails_its_own_streams_and_is_back_soon():
    """Both serve; SIGKILL of one is UNAVAILABLE on its streams alone, and every next call is answered."""
    begun_at = time.monotonic()
    async with held_streams() as (fleet, released, connections):
        started_s = time.monotonic() - begun_at
        chats, calls, shares = await streams_on_every_worker(fleet, connections)
        victim, its_streams = next(iter(shares.items()))
        killed_at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        await fleet.all_serve(without={victim})
        restored_s = time.monotonic() - killed_at
        released.set()
        codes = await endings(calls)
        after = await endings([chat.StreamComplete(request()) for chat in chats])
        rows = await fleet.processes()

    assert its_streams == codes.count(grpc.StatusCode.UNAVAILABLE)
    assert len(calls) - its_streams == codes.count(grpc.StatusCode.OK)
    assert {grpc.StatusCode.OK} == set(after)
    # Where the machine is so busy that the first start was slow, no second can be quick.
    assert restored_s < max(RESTORED_S, 2 * started_s)
    assert 1 == sum(row["restarts"] for row in rows)
    assert "died of SIGKILL; a new one in 0.1 s" in fleet.command.error_text


async def test_a_worker_that_hangs_is_replaced(lasting):
    """A stopped process keeps its connections and answers none of them: silence kills it."""
    victim = min(await lasting.all_serve())
    os.kill(victim, signal.SIGSTOP)
    await lasting.command.said("gave no sign of life for 3 s: killed")
    pids = await lasting.all_serve(without={victim})

    assert not lives(victim)
    assert 2 == len(pids)


async def test_a_simulator_that_is_killed_is_back_at_its_address(lasting):
    """One simulator for all workers, watched like them."""
    (sandbox,) = await lasting.processes("sandbox")
    os.kill(sandbox["pid"], signal.SIGKILL)
    await lasting.when(lambda rows: serves_anew(rows[0], sandbox), "sandbox")
    async with AsyncExitStack() as connections:
        chat = await connected(lasting, connections)
        answer = await chat.Complete(request("echo: hi"))

    assert "hi" == answer.choices[0].message.content[0].text


def serves_anew(row, before):
    return row["state"] == "serving" and row["pid"] != before["pid"]


async def test_the_supervisor_answers_for_all_and_serves_nothing(lasting):
    """Pages on the admin port, one greeting, health from the workers, and no gRPC in the process."""
    pids = await lasting.all_serve()
    pages = [await lasting.page(path) for path in ("/healthz", "/readyz", "/version", "/workers")]
    async with aio.insecure_channel(lasting.health) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

    assert [200] * 4 == [status for status, _ in pages]
    assert lasting.pid == json.loads(pages[3][1])["supervisor"]
    assert lasting.pid not in pids
    assert health_pb2.HealthCheckResponse.SERVING == health.status
    assert "2 workers" in lasting.greeting
    assert 1 == lasting.command.error_text.count("SERVING: gRPC")
    assert [] == lasting.loaded("cygrpc", "httptools")


async def test_a_keyboard_interrupt_reaches_the_supervisor_alone(lasting):
    """A terminal sends it to a whole group: workers that got it twice would cut their calls."""
    groups = {os.getpgid(pid) for pid in await lasting.pids()}

    assert 3 == len(groups)
    assert os.getpgid(lasting.pid) not in groups


async def test_no_module_of_the_supervisor_loads_grpc_or_an_http_client():
    """A process that loaded them must not start others; and it would be slow to start."""
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
async def test_a_second_server_on_the_port_is_refused(workers, fleet_in_the_way):
    """With SO_REUSEPORT it would have got half of the calls: one line instead, and the end."""
    listen = ("--grpc-listen", fleet_in_the_way, "--admin-listen", "off")
    async with running_command(*SANDBOX, *listen, "--workers", workers) as second:
        status = await second.ended()

    assert 1 == status
    assert 1 == len(second.lines)
    assert second.lines[0].startswith("togetherchat-server: cannot serve: ")
    assert fleet_in_the_way in second.lines[0]


@pytest.fixture(scope="module")
def fleet_in_the_way():
    """An address that a supervisor holds and at which no worker listens yet."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


async def test_sigterm_lets_streams_end_on_every_worker():
    """Not ready at once, alive; the streams are whole; status 0, and nobody is left."""
    async with held_streams() as (fleet, released, connections):
        _, calls, _ = await streams_on_every_worker(fleet, connections)
        pids = await fleet.pids()
        fleet.command.signal(signal.SIGTERM)
        await fleet.when(lambda rows: {"stopping"} == {row["state"] for row in rows})
        readiness, liveness = await fleet.page("/readyz"), await fleet.page("/healthz")
        released.set()
        codes = await endings(calls)
        status = await fleet.command.ended()

    assert {grpc.StatusCode.OK} == set(codes)
    assert (503, 200) == (readiness[0], liveness[0])
    assert 0 == status
    assert not any(map(lives, pids))
    assert is_free(fleet.rpc)


async def test_a_second_sigterm_ends_at_once_and_tells_running_calls():
    """Whoever signals twice does not want to wait; the callers hear of it."""
    async with held_streams() as (fleet, _, connections):
        _, calls, _ = await streams_on_every_worker(fleet, connections)
        fleet.command.signal(signal.SIGTERM)
        await fleet.when(lambda rows: {"stopping"} == {row["state"] for row in rows})
        fleet.command.signal(signal.SIGTERM)
        failures = [failure for _, failure in await asyncio.gather(*map(collect, calls))]
        status = await fleet.command.ended()

    assert {"DRAINING"} == {failure.info.reason for failure in failures}
    assert 0 == status


async def test_a_killed_supervisor_leaves_no_orphan():
    """Workers and simulator notice, give their calls a moment, and leave the port free."""
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
    assert is_free(fleet.rpc)


async def test_a_rolling_restart_under_load_loses_no_call(lasting):
    """SIGHUP: every worker is new, every stream is whole, and every call of a constant load is answered."""
    stop = asyncio.Event()
    logged = len(lasting.command.lines)
    before = await lasting.all_serve()
    async with AsyncExitStack() as connections:
        chats = [await connected(lasting, connections, SHIPPED) for _ in range(6)]
        long = [chat.StreamComplete(request("count", model="sandbox/slow", max_tokens=5)) for chat in chats]
        load = [asyncio.create_task(asking_until(stop, chat)) for chat in chats]
        lasting.command.signal(signal.SIGHUP)
        codes = await endings(long)
        after = await lasting.all_serve(without=before)
        stop.set()
        answered = [await task for task in load]

    assert {grpc.StatusCode.OK} == set(codes)
    assert min(answered) > 0
    assert not before & after
    assert {("OK", "")} == set(lasting.ended_calls(since=logged))


async def asking_until(stop, chat):
    """One call after the other; how many were answered. A failure is raised."""
    answered = 0
    while not stop.is_set():
        await chat.Complete(request("echo: hi"))
        answered += 1
    return answered


async def test_workers_that_cannot_start_end_the_start(tmp_path):
    """Three times, then an end that says so: here gRPC cannot be loaded, which the supervisor never tries."""
    (tmp_path / "grpc.py").write_text("raise SystemExit(7)\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *ROOTS])}
    words = (*LOOPBACK, *SANDBOX, "--workers", "2")
    async with running_command(*words, environment=environment) as command:
        status = await command.ended()

    assert 1 == status
    assert "togetherchat-server: the workers cannot start: exited with status 7" == command.lines[-1]
    assert not [line for line in command.lines if "SERVING" in line]
