"""The image, run: it serves, it is confined, it stops as it should."""

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
from support.app import collect, request
from support.command import REASONABLE_S
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_answer
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2 as service

KEY = "tgp_v1_canary0123456789"
HEALTH = "127.0.0.1:50052"
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "model": "some/model",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


async def test_it_serves(chat):
    """A client outside gets an answer, and the catalogue that the wheel brought."""
    async with container("--sandbox") as running:
        await running.serves()

        answer = await chat.Complete(request("echo: hello"))
        models = await chat.ListModels(service.ListModelsRequest())

    assert "hello" == answer.choices[0].message.content[0].text
    assert 0 < len(models.models)


async def test_it_needs_no_privilege():
    """The kernel says so: no root, no capability, none to be gained, system calls filtered."""
    async with container("--sandbox") as running:
        await running.serves()
        status = running.status()
        user = running.evaluate("os.getuid()")

    assert "65532" == user
    assert "65532 65532 65532 65532" == status["Uid"] == status["Gid"]
    assert {"0000000000000000"} == {
        status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    }
    assert "1" == status["NoNewPrivs"]
    assert "2" == status["Seccomp"]


@pytest.mark.parametrize("place", ["/x", "/etc/x", "/opt/togetherchat/x", "/usr/lib/x"])
async def test_its_root_cannot_be_written(place):
    """Nothing that gets in can stay."""
    async with container("--sandbox") as running:
        await running.serves()
        tried = running.execute("python", "-c", f"open({place!r}, 'w')", options=("--user", "0"))

    assert "Read-only file system" in tried.stderr


async def test_its_memory_is_bounded():
    """The limit that it was given is one that the kernel holds it to."""
    async with container("--sandbox") as running:
        await running.serves()
        bound = memory_limit(running.first_pid)

    assert MEMORY_BYTES == bound


def memory_limit(pid):
    """What the control group of a process may use, in either version."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if "memory" in groups:
        return int(Path(f"/sys/fs/cgroup/memory{groups['memory']}/memory.limit_in_bytes").read_text())
    return int(Path(f"/sys/fs/cgroup{groups['']}/memory.max").read_text())


@pytest.mark.parametrize(("share", "reason"), [("0.99", None), ("0.02", "OVERLOADED")])
async def test_it_sheds_calls_when_its_memory_is_short(chat, share, reason):
    """It reads its own control group, of either version, where the kernel shows it: here it uses about a tenth."""
    async with container("--sandbox", "--memory-shed-ratio", share) as running:
        await running.serves()
        events, failure = await collect(chat.StreamComplete(request()))

    assert reason == (failure and failure.info.reason)
    assert (reason is None) == bool(events)


async def test_told_to_stop_before_it_serves_it_ends():
    """The kernel keeps from a container's first process what it has no handler for: there is one at once."""
    ends = []
    for moment_s in (0, 0.1, 0.2, 0.4):
        async with container("--sandbox") as running:
            await eventually(running.listens_to_signals, within_s=60)
            await asyncio.sleep(moment_s)
            running.signal("TERM")
            ends.append((await running.command.wait_for_exit(), "Traceback" in running.command.error_text))

    assert [(0, False)] * 4 == ends


async def test_probes_are_answered():
    """The gRPC health service, the admin port and the image's own check say that it wants calls."""
    async with container("--sandbox") as running, aio.insecure_channel(HEALTH) as probes:
        await running.serves()
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


async def test_the_image_checks_itself_by_that_command(manifest):
    """Engines without probes of their own run it."""
    assert ["CMD", "togetherchat-ready"] == manifest["Healthcheck"]["Test"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stream_in_flight_ends_well_when_it_is_stopped(chat, workers):
    """SIGTERM drains: the stream ends with `completed`, the exit status is 0, nobody had to kill."""
    async with container("--sandbox", "--workers", str(workers)) as running:
        await running.serves()
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


async def test_a_worker_that_dies_is_replaced_and_leaves_nothing(chat):
    """The supervisor is the first process, and collects its own."""
    async with container("--sandbox", "--workers", "2") as running:
        await running.serves()
        before = await two_workers()
        os.kill(on_this_machine(running, before[0]), signal.SIGKILL)
        await eventually(
            lambda: before[0] not in worker_pids() and 2 == len(worker_pids()), within_s=REASONABLE_S
        )
        states = running.processes().values()
        answer = await chat.Complete(request("echo: hello"))

    assert "Z" not in states
    assert "hello" == answer.choices[0].message.content[0].text


async def two_workers():
    await eventually(lambda: 2 == len(worker_pids()), within_s=REASONABLE_S)
    return sorted(worker_pids())


def worker_pids():
    """The workers that serve, as the container numbers them."""
    rows = json.loads(page("/workers"))["processes"]
    return {row["pid"] for row in rows if "worker" == row["role"] and "serving" == row["state"]}


def page(path):
    with urllib.request.urlopen(f"http://127.0.0.1:9464{path}") as found:
        return found.read().decode()


def on_this_machine(running, pid):
    """The number here of a process that has another one inside."""
    for candidate in running.processes():
        line = next(
            x for x in Path(f"/proc/{candidate}/status").read_text().splitlines() if x.startswith("NSpid")
        )
        if int(line.split()[-1]) == pid:
            return candidate
    raise AssertionError(f"no process {pid} inside")


async def test_without_a_key_it_explains_itself():
    """The bare image serves nobody, and says what is missing."""
    async with container() as running:
        status = await running.command.wait_for_exit()

    assert 2 == status
    assert "no key for Together: set TOGETHER_API_KEY or TOGETHER_API_KEY_FILE" in running.command.error_text


async def test_with_a_key_and_open_to_all_it_refuses():
    """Its default address is not loopback: who may spend the key has to be said."""
    async with container(environment={"TOGETHER_API_KEY": KEY}) as running:
        status = await running.command.wait_for_exit()

    assert 2 == status
    assert "would let anyone use this service's key" in running.command.error_text
    assert KEY not in running.command.error_text


async def test_a_key_comes_from_a_mounted_secret(chat, tmp_path):
    """TOGETHER_API_KEY_FILE is read by the user that is nobody, and the provider is asked with it."""
    secret = tmp_path / "key"
    secret.write_text(KEY + "\n")
    secret.chmod(0o444)
    mount = f"{secret}:/run/secrets/together:ro"
    async with ScriptedUpstream(always(json_answer(200, ANSWER))) as upstream:
        environment = {
            "TOGETHER_BASE_URL": upstream.base_url,
            "TOGETHER_API_KEY_FILE": "/run/secrets/together",
            "TOGETHERCHAT_GRPC_LISTEN": "127.0.0.1:50051",
        }
        async with container(options=("--volume", mount), environment=environment) as running:
            await running.serves()
            answer = await chat.Complete(request())
        asked = upstream.ledger.requests

    assert "hello" == answer.choices[0].message.content[0].text
    assert f"Bearer {KEY}" in {one.headers.get("authorization") for one in asked}
    assert KEY not in running.command.error_text


async def test_a_caller_is_told_when_nobody_serves(channel, chat):
    """What a stopped container leaves behind is a closed port."""
    async with container("--sandbox") as running:
        await running.serves()
        await running.stop()

    with pytest.raises(aio.AioRpcError) as refused:
        await chat.Complete(request(), timeout=REASONABLE_S)
    assert grpc.StatusCode.UNAVAILABLE == refused.value.code()
