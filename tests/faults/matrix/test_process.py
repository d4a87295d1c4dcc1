"""Faults of the process and its machine, one row each.

Most rows run the service as a process. Faults of several workers are in
`tests/integration/test_workers.py`, SIGTERM during the start is in `tests/integration/test_command.py`.
"""

import asyncio
import os
import resource
import signal
import sys
import time

import pytest
from grpc import aio

from faults.matrix.measure import peak_growth_mib
from faults.matrix.scene import CALLER_KEY
from faults.responses import DONE, chunk_json, event, stream_start, valid_response
from faults.served import served
from support.app import CANARY_KEY, collect, failing, request
from support.channels import goaway_received
from support.http_client import get_page
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, Stall, chunk
from togetherchat_server.config.reloading_file import CHECK_EVERY_S

BUSY_S = 20.0
"""A bound for a busy machine, below the drain timeout. The table shows the measured time."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CALLER = (("authorization", f"Bearer {CALLER_KEY}"),)
END = (Send(event(chunk_json("", "stop")) + event(DONE) + chunk(b"")),)


def ask(service, **options):
    return service.chat.Complete(request(), metadata=CALLER, **options)


async def code_of(call):
    try:
        await call
    except aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_sigterm_idle(table, record_exposed):
    """An idle process exits at once with status 0."""
    async with ScriptedUpstream(valid_response) as upstream, served(upstream.base_url) as service:
        await ask(service)
        start_s = time.monotonic()
        service.command.signal(signal.SIGTERM)
        status = await service.command.wait_for_exit()
        took_s = time.monotonic() - start_s
        record_exposed(service.command.error_text)

    table(
        "SIGTERM, idle",
        "status 0 within 2 s",
        f"status {status} after {took_s:.2f} s",
        holds=status == 0 and took_s < BUSY_S,
    )


async def test_sigterm_mid_stream(table, record_exposed):
    """A stream that ends within the drain timeout is complete. A longer one fails with DRAINING."""
    released = asyncio.Event()

    def script(received):
        return (
            (stream_start(chunk_json()), Pause(released), *END)
            if b"short" in received.body
            else (stream_start(chunk_json()), Stall())
        )

    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url, "--drain-timeout-s", "5") as service,
    ):
        calls = [service.chat.StreamComplete(request(text), metadata=CALLER) for text in ("short", "long")]
        waiting = [asyncio.ensure_future(collect(call)) for call in calls]
        await upstream.until(
            lambda log: len(log.requests) == 2 and all(sent.bytes_sent for sent in log.requests)
        )
        service.command.signal(signal.SIGTERM)
        await goaway_received(service.channel)
        ready = get_page(service.admin, "/readyz")
        rejected, readiness = await asyncio.gather(code_of(ask(service)), ready)
        released.set()
        (short, failure), (long, aborted) = await asyncio.gather(*waiting)
        status = await service.command.wait_for_exit()
        record_exposed(service.command.error_text, str(aborted))

    table("SIGTERM mid-stream", "short stream complete, long stream UNAVAILABLE DRAINING; new calls UNAVAILABLE; not ready; status 0",
          f"short stream {'complete' if failure is None and short[-1].HasField('completed') else 'cut'}, "
          f"long stream {aborted.code.name} {aborted.info.reason}; new calls {rejected}; {'ready' if readiness.status == 200 else 'not ready'}; status {status}")  # fmt: skip
    assert "Hi" == "".join(event.delta.text for event in long)


async def test_second_sigterm(table, record_exposed):
    """Calls in flight fail with DRAINING, and the exit is clean."""
    async with ScriptedUpstream(always((Stall(),))) as upstream, served(upstream.base_url) as service:
        running = asyncio.ensure_future(failing(ask(service)))
        await upstream.received()
        start_s = time.monotonic()
        service.command.signal(signal.SIGTERM)
        await service.command.wait_for_line("not serving")
        service.command.signal(signal.SIGTERM)
        aborted, status = await asyncio.gather(running, service.command.wait_for_exit())
        took_s = time.monotonic() - start_s
        record_exposed(service.command.error_text, str(aborted))

    table("a second SIGTERM", "DRAINING, status 0, within 3 s", f"{aborted.info.reason}, status {status}, after {took_s:.1f} s",
          holds=(aborted.info.reason, status) == ("DRAINING", 0) and took_s < BUSY_S)  # fmt: skip


async def test_a_pause_of_two_seconds(table, record_exposed):
    """A process stopped for two seconds continues its calls: no cancel, no second request."""
    finish = asyncio.Event()

    def script(received):
        return (
            (stream_start(chunk_json()), Pause(finish), *END)
            if b'"stream":true' in received.body
            else (Pause(finish), *valid_response(received))
        )

    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url, "--stream-idle-timeout-s", "5", "--response-timeout-s", "5") as service,
    ):
        unary = asyncio.ensure_future(code_of(ask(service, timeout=10)))
        stream = asyncio.ensure_future(
            collect(service.chat.StreamComplete(request(), metadata=CALLER, timeout=10))
        )
        await upstream.received(2)
        service.command.signal(signal.SIGSTOP)
        finish.set()
        await asyncio.sleep(2)
        service.command.signal(signal.SIGCONT)
        code, (_, failure) = await asyncio.gather(unary, stream)
        alive = (await get_page(service.admin, "/healthz")).status
        requests = len(upstream.request_log.requests)
        record_exposed(service.command.error_text)

    table(
        "the process is stopped for 2 s",
        "OK, OK, alive, 2 requests",
        f"{code}, {failure or 'OK'}, {'alive' if alive == 200 else alive}, {requests} requests",
    )


async def test_no_file_descriptor_left(table, record_exposed):
    """Calls in flight continue, new upstream connections fail, and service resumes with free descriptors."""
    finish = asyncio.Event()

    def script(received):
        return (
            (Pause(finish), *valid_response(received))
            if b"slow" in received.body
            else valid_response(received)
        )

    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url, "--max-retries", "0") as service,
    ):
        running = asyncio.ensure_future(
            code_of(service.chat.Complete(request("slow"), metadata=CALLER, timeout=20))
        )
        await upstream.received()
        soft, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (service.descriptors(), hard))
        failed = await failing(ask(service, timeout=10))
        finish.set()
        slow = await running
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (soft, hard))
        async with aio.insecure_channel(service.address) as channel:
            async with asyncio.timeout(20):
                await channel.channel_ready()
        after = await code_of(ask(service, timeout=60))
        record_exposed(service.command.error_text, str(failed))

    table("no file descriptor left", "running OK, new UNAVAILABLE UPSTREAM_CONNECT_FAILED, then OK",
          f"running {slow}, new {failed.code.name} {failed.info.reason}, then {after}")  # fmt: skip


async def test_disk_full(table):
    """If the log cannot be written, the service continues without it."""
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123  a device
        async with (
            ScriptedUpstream(valid_response) as upstream,
            served(upstream.base_url, stderr=full.fileno()) as service,
        ):
            codes = {await code_of(ask(service, timeout=10)) for _ in range(50)}
            service.command.signal(signal.SIGTERM)
            status = await service.command.wait_for_exit()

    table("the log's disk is full", "OK, status 0", f"{', '.join(codes)}, status {status}")


async def test_log_pipe_blocked(table):
    """If nobody reads the log, calls succeed, and the exit is clean."""
    read_end, write_end = os.pipe()
    try:
        async with (
            ScriptedUpstream(valid_response) as upstream,
            served(upstream.base_url, stderr=write_end) as service,
        ):
            codes = {await code_of(ask(service, timeout=10)) for _ in range(400)}
            service.command.signal(signal.SIGTERM)
            status = await service.command.wait_for_exit()
    finally:
        os.close(read_end)
        os.close(write_end)

    table("the log's pipe is blocked", "OK, status 0", f"{', '.join(codes)}, status {status}")


async def test_messages_of_rejected_callers(table, record_exposed):
    """The messages of 40 rejected calls, 8 MB each, are never all in memory at once."""
    async with (
        ScriptedUpstream(valid_response) as upstream,
        served(
            upstream.base_url, "--upstream-credentials", "caller", environment={"TOGETHER_API_KEY": ""}
        ) as service,
    ):
        large = request("x" * 8_000_000)
        with peak_growth_mib(service.pid) as growth:
            calls = [service.chat.Complete(large, timeout=300) for _ in range(40)]
            codes = {await code_of(call) for call in calls}
            grown = growth()
        after = await code_of(ask(service, timeout=60))
        record_exposed(service.command.error_text)

    table("40 rejected callers with 8 MB each", "UNAUTHENTICATED, peak below half of 320 MB, then OK", f"{', '.join(codes)}, peak {grown:.0f} MiB, then {after}",
          holds=(codes, after) == ({"UNAUTHENTICATED"}, "OK") and grown < 150)  # fmt: skip


async def test_memory_limit_near(stage, table):
    """Near the memory limit, calls in flight finish and new calls are rejected."""
    finish, under_pressure = asyncio.Event(), [False]
    async with stage(lambda received: (stream_start(chunk_json()), Pause(finish), *END)) as scene:
        scene.app.admission._short_of_memory = lambda: under_pressure[0]
        running = scene.begin("StreamComplete")
        waiting = asyncio.ensure_future(scene.ended(running))
        await scene.upstream.received()
        under_pressure[0] = True
        rejected = await scene.ask("StreamComplete")
        finish.set()
        ended = await waiting
        under_pressure[0] = False

    table(
        "the memory limit is near",
        "call in flight OK, new call UNAVAILABLE OVERLOADED",
        f"call in flight {ended.code}, new call {rejected.code} {rejected.reason}",
    )


@pytest.mark.parametrize("step_s", [3600, -3600])
async def test_clock_step(step_s, stage, table, monkeypatch):
    """The wall clock steps by an hour during calls: no call fails, and every deadline holds."""
    offset_s = [0.0]
    real = time.time
    finish = asyncio.Event()
    async with stage(
        lambda received: (Pause(finish), *valid_response(received)), wall_clock=lambda: real() + offset_s[0]
    ) as scene:
        long = scene.begin("Complete", timeout=5)
        short = scene.begin("StreamComplete", timeout=0.6)
        waiting = [asyncio.ensure_future(scene.ended(call)) for call in (long, short)]
        await scene.upstream.received(2)
        offset_s[0] = step_s
        monkeypatch.setattr(time, "time", lambda: real() + step_s)
        ended = await waiting[1]
        finish.set()
        completed = await waiting[0]
        monkeypatch.undo()

    table(
        f"the wall clock steps by {step_s:+} s",
        "OK / DEADLINE_EXCEEDED CALLER_DEADLINE",
        f"{completed.code} / {ended.code} {ended.reason}",
    )


async def test_key_rotation(table, record_exposed, tmp_path):
    """A replaced key file is used within a second."""
    file = tmp_path / "key"
    file.write_text(CANARY_KEY + "\n", encoding="ascii")
    async with (
        ScriptedUpstream(valid_response) as upstream,
        served(upstream.base_url, environment={"TOGETHER_API_KEY_FILE": str(file)}) as service,
    ):
        await ask(service)
        file.with_suffix(".new").write_text("canary-of-tomorrow-0123456789", encoding="ascii")
        file.with_suffix(".new").rename(file)
        await asyncio.sleep(CHECK_EVERY_S)
        await ask(service)
        keys = [received.headers["authorization"] for received in upstream.request_log.requests]
        record_exposed(service.command.error_text)

    table("the provider's key file is replaced", "Bearer canary-of-tomorrow-0123456789", keys[-1])
    assert f"Bearer {CANARY_KEY}" == keys[0]
