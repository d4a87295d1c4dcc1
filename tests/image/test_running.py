"""The running image: it serves calls, is confined, and stops cleanly."""

import asyncio
import json
import os
import signal
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from image.containers import MEMORY_BYTES, container
from support import openai
from support.app import collect, request
from support.command import REASONABLE_S
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_response
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2 as service

KEY = "tgp_v1_canary0123456789"
HEALTH = "127.0.0.1:50052"


async def test_the_image_serves_calls(chat):
    """A client on this machine receives a completion and the model catalog."""
    async with container("--sandbox") as running:
        await running.wait_until_serving()

        completion = await chat.Complete(request("echo: hello"))
        models = await chat.ListModels(service.ListModelsRequest())

    assert "hello" == completion.choices[0].message.content[0].text
    assert 0 < len(models.models)


async def test_the_server_has_no_privileges():
    """The kernel reports no root, no capabilities, no way to gain any, and a seccomp filter."""
    async with container("--sandbox") as running:
        await running.wait_until_serving()
        status = running.status()
        user = running.evaluate("os.getuid()")

    assert "65532" == user
    assert "65532 65532 65532 65532" == status["Uid"] == status["Gid"]
    assert {"0000000000000000"} == {
        status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    }
    assert "1" == status["NoNewPrivs"]
    assert "2" == status["Seccomp"]


@pytest.mark.parametrize("path", ["/x", "/etc/x", "/opt/togetherchat/x", "/usr/lib/x"])
async def test_the_root_file_system_is_read_only(path):
    """Even root in the container cannot create a file."""
    async with container("--sandbox") as running:
        await running.wait_until_serving()
        written = running.execute("python", "-c", f"open({path!r}, 'w')", options=("--user", "0"))

    assert "Read-only file system" in written.stderr


async def test_the_kernel_enforces_the_memory_limit():
    """The control group of the server has the limit that the engine was given."""
    async with container("--sandbox") as running:
        await running.wait_until_serving()
        limit = memory_limit(running.first_pid)

    assert MEMORY_BYTES == limit


def memory_limit(pid):
    """The memory limit of a process's control group, of version 1 or 2."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if "memory" in groups:
        return int(Path(f"/sys/fs/cgroup/memory{groups['memory']}/memory.limit_in_bytes").read_text())
    return int(Path(f"/sys/fs/cgroup{groups['']}/memory.max").read_text())


@pytest.mark.parametrize(("share", "reason"), [("0.99", None), ("0.02", "OVERLOADED")])
async def test_the_server_sheds_calls_when_memory_is_short(chat, share, reason):
    """The server reads its control group, of version 1 or 2; here it uses about a tenth of the limit."""
    async with container("--sandbox", "--memory-shed-ratio", share) as running:
        await running.wait_until_serving()
        events, failure = await collect(chat.StreamComplete(request()))

    assert reason == (failure and failure.info.reason)
    assert (reason is None) == bool(events)


async def test_a_stop_signal_before_the_server_serves_ends_it():
    """The kernel drops signals that process 1 does not handle, so the server installs its handler first."""
    exits = []
    for delay_s in (0, 0.1, 0.2, 0.4):
        async with container("--sandbox") as running:
            await eventually(running.handles_sigterm, within_s=60)
            await asyncio.sleep(delay_s)
            running.signal("TERM")
            exits.append((await running.command.wait_for_exit(), "Traceback" in running.command.error_text))

    assert [(0, False)] * 4 == exits


async def test_probes_report_that_the_server_is_ready():
    """The gRPC health service, the admin listener and the image's health check report ready."""
    async with container("--sandbox") as running, aio.insecure_channel(HEALTH) as probes:
        await running.wait_until_serving()
        health = await health_pb2_grpc.HealthStub(probes).Check(health_pb2.HealthCheckRequest())
        checked = running.execute("togetherchat-ready")
        elsewhere = running.execute(
            "togetherchat-ready", options=("--env", "TOGETHERCHAT_ADMIN_LISTEN=127.0.0.1:9")
        )
        ready = page("/readyz")

    assert health_pb2.HealthCheckResponse.SERVING == health.status
    assert "ok" == ready.strip()
    assert 0 == checked.returncode
    assert 1 == elsewhere.returncode


async def test_the_health_check_of_the_image_is_togetherchat_ready(manifest):
    """Engines without probes of their own run this command."""
    assert ["CMD", "togetherchat-ready"] == manifest["Healthcheck"]["Test"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stream_in_flight_completes_when_the_server_stops(chat, workers):
    """SIGTERM drains: the stream ends with `completed`, and the server exits with status 0."""
    async with container("--sandbox", "--workers", str(workers)) as running:
        await running.wait_until_serving()
        call = chat.StreamComplete(request(model="sandbox/slow", max_tokens=12))
        arriving = aiter(call)
        events = [await anext(arriving)]
        stopping = running.stop()
        await running.command.wait_for_line("not serving" if workers == 1 else "stop")
        events += [event async for event in arriving]
        status = await running.command.wait_for_exit()
        await stopping

    assert "started" == events[0].WhichOneof("event")
    assert "completed" == events[-1].WhichOneof("event")
    assert 0 == status


async def test_a_worker_that_dies_is_replaced_and_reaped(chat):
    """The supervisor is process 1, and leaves no zombie."""
    async with container("--sandbox", "--workers", "2") as running:
        await running.wait_until_serving()
        before = await two_workers()
        os.kill(host_pid(running, before[0]), signal.SIGKILL)
        await eventually(
            lambda: before[0] not in worker_pids() and 2 == len(worker_pids()), within_s=REASONABLE_S
        )
        states = running.processes().values()
        completion = await chat.Complete(request("echo: hello"))

    assert "Z" not in states
    assert "hello" == completion.choices[0].message.content[0].text


async def two_workers():
    await eventually(lambda: 2 == len(worker_pids()), within_s=REASONABLE_S)
    return sorted(worker_pids())


def worker_pids():
    """The PIDs, in the container, of the workers that serve."""
    rows = json.loads(page("/workers"))["processes"]
    return {row["pid"] for row in rows if "worker" == row["role"] and "serving" == row["state"]}


def page(path):
    with urllib.request.urlopen(f"http://127.0.0.1:9464{path}") as found:
        return found.read().decode()


def host_pid(running, pid):
    """The PID on this machine of a process with this PID in the container."""
    for candidate in running.processes():
        line = next(
            x for x in Path(f"/proc/{candidate}/status").read_text().splitlines() if x.startswith("NSpid")
        )
        if int(line.split()[-1]) == pid:
            return candidate
    raise AssertionError(f"no process {pid} in the container")


async def test_without_a_key_the_server_exits_with_an_explanation():
    """Without settings the server does not start, and names the missing setting."""
    async with container() as running:
        status = await running.command.wait_for_exit()

    assert 2 == status
    assert "no key for Together: set TOGETHER_API_KEY or TOGETHER_API_KEY_FILE" in running.command.error_text


async def test_with_a_key_and_without_authentication_the_server_exits():
    """The default address is not loopback, so the operator must decide who may spend the key."""
    async with container(environment={"TOGETHER_API_KEY": KEY}) as running:
        status = await running.command.wait_for_exit()

    assert 2 == status
    assert "would let anyone use this service's key" in running.command.error_text
    assert KEY not in running.command.error_text


async def test_the_key_is_read_from_a_mounted_secret(chat, tmp_path):
    """The unprivileged user can read TOGETHER_API_KEY_FILE, and requests to the provider carry the key."""
    secret = tmp_path / "key"
    secret.write_text(KEY + "\n")
    secret.chmod(0o444)
    mount = f"{secret}:/run/secrets/together:ro"
    async with ScriptedUpstream(always(json_response(200, openai.completion("hello")))) as upstream:
        environment = {
            "TOGETHER_BASE_URL": upstream.base_url,
            "TOGETHER_API_KEY_FILE": "/run/secrets/together",
            "TOGETHERCHAT_GRPC_LISTEN": "127.0.0.1:50051",
        }
        async with container(options=("--volume", mount), environment=environment) as running:
            await running.wait_until_serving()
            completion = await chat.Complete(request())
        requests = upstream.request_log.requests

    assert "hello" == completion.choices[0].message.content[0].text
    assert f"Bearer {KEY}" in {one.headers.get("authorization") for one in requests}
    assert KEY not in running.command.error_text


async def test_calls_after_the_stop_fail_with_unavailable(channel, chat):
    """A stopped container leaves a closed port."""
    async with container("--sandbox") as running:
        await running.wait_until_serving()
        await running.stop()

    with pytest.raises(aio.AioRpcError) as failure:
        await chat.Complete(request(), timeout=REASONABLE_S)
    assert grpc.StatusCode.UNAVAILABLE == failure.value.code()
