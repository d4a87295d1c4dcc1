"""What can befall the process and its machine, a row each.

Most rows need the service in a process of its own. Rows of several workers are beside the
supervisor's tests; SIGTERM during the start is in `tests/integration/test_command.py`.
"""

import asyncio
import os
import resource
import signal
import sys
import time

import pytest
from grpc import aio

from faults.answers import DONE, begun, event, piece, well
from faults.matrix.measure import peak_growth_mib
from faults.matrix.scene import CALLER_KEY
from faults.served import page, served
from support.app import CANARY_KEY, collect, failing, request
from support.channels import goaway_received
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, Stall, chunk

BUSY_S = 20.0
"""Any machine, however busy: the table shows what it took, and the drain alone would take longer."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

CALLER = (("authorization", f"Bearer {CALLER_KEY}"),)
END = (Send(event(piece("", "stop")) + event(DONE) + chunk(b"")),)


def ask(service, **options):
    return service.chat.Complete(request(), metadata=CALLER, **options)


async def code_of(call):
    try:
        await call
    except aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_sigterm_idle(table, heard):
    """It ends by itself, at once, with status 0."""
    async with ScriptedUpstream(well) as upstream, served(upstream.base_url) as service:
        await ask(service)
        began_s = time.monotonic()
        service.command.signal(signal.SIGTERM)
        status = await service.command.ended()
        took_s = time.monotonic() - began_s
        heard(service.command.error_text)

    table(
        "SIGTERM, idle",
        "status 0 within 2 s",
        f"status {status} after {took_s:.2f} s",
        holds=status == 0 and took_s < BUSY_S,
    )


async def test_sigterm_mid_stream(table, heard):
    """A stream that ends in time is whole; one that does not is told so by the service itself."""
    released = asyncio.Event()

    def script(asked):
        return (
            (begun(piece()), Pause(released), *END) if b"short" in asked.body else (begun(piece()), Stall())
        )

    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url, "--drain-timeout-s", "5") as service,
    ):
        calls = [service.chat.StreamComplete(request(text), metadata=CALLER) for text in ("short", "long")]
        waiting = [asyncio.ensure_future(collect(call)) for call in calls]
        await upstream.until(
            lambda ledger: len(ledger.requests) == 2 and all(one.bytes_sent for one in ledger.requests)
        )
        service.command.signal(signal.SIGTERM)
        await goaway_received(service.channel)
        ready = page(service.admin, "/readyz")
        refused, (readiness, _) = await asyncio.gather(code_of(ask(service)), ready)
        released.set()
        (short, failure), (long, told) = await asyncio.gather(*waiting)
        status = await service.command.ended()
        heard(service.command.error_text, str(told))

    table("SIGTERM mid-stream", "the short one whole, the long one UNAVAILABLE DRAINING; new calls UNAVAILABLE; not ready; status 0",
          f"the short one {'whole' if failure is None and short[-1].HasField('completed') else 'cut'}, "
          f"the long one {told.code.name} {told.info.reason}; new calls {refused}; {'ready' if readiness == 200 else 'not ready'}; status {status}")  # fmt: skip
    assert "Hi" == "".join(one.delta.text for one in long)


async def test_second_sigterm(table, heard):
    """Whoever is in a hurry signals twice: what runs is told DRAINING, and the end is orderly."""
    async with ScriptedUpstream(always((Stall(),))) as upstream, served(upstream.base_url) as service:
        running = asyncio.ensure_future(failing(ask(service)))
        await upstream.asked()
        began_s = time.monotonic()
        service.command.signal(signal.SIGTERM)
        await service.command.said("not serving")
        service.command.signal(signal.SIGTERM)
        told, status = await asyncio.gather(running, service.command.ended())
        took_s = time.monotonic() - began_s
        heard(service.command.error_text, str(told))

    table("a second SIGTERM", "DRAINING, status 0, within 3 s", f"{told.info.reason}, status {status}, after {took_s:.1f} s",
          holds=(told.info.reason, status) == ("DRAINING", 0) and took_s < BUSY_S)  # fmt: skip


async def test_a_pause_of_two_seconds(table, heard):
    """Stopped for two seconds in the middle of calls, it goes on with them: no cancel, no second request."""
    finish = asyncio.Event()

    def script(asked):
        return (
            (begun(piece()), Pause(finish), *END)
            if b'"stream":true' in asked.body
            else (Pause(finish), *well(asked))
        )

    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url, "--stream-idle-timeout-s", "5", "--response-timeout-s", "5") as service,
    ):
        whole = asyncio.ensure_future(code_of(ask(service, timeout=10)))
        stream = asyncio.ensure_future(
            collect(service.chat.StreamComplete(request(), metadata=CALLER, timeout=10))
        )
        await upstream.asked(2)
        service.command.signal(signal.SIGSTOP)
        finish.set()
        await asyncio.sleep(2)
        service.command.signal(signal.SIGCONT)
        code, (_, failure) = await asyncio.gather(whole, stream)
        alive, _ = await page(service.admin, "/healthz")
        asked = len(upstream.ledger.requests)
        heard(service.command.error_text)

    table(
        "the loop stands still for 2 s",
        "OK, OK, alive, asked 2x",
        f"{code}, {failure or 'OK'}, {'alive' if alive == 200 else alive}, asked {asked}x",
    )


async def test_no_file_descriptor_left(table, heard):
    """Running calls go on, new upstream connections are refused as such; service is back with the descriptors."""
    finish = asyncio.Event()
    script = lambda asked: (Pause(finish), *well(asked)) if b"slow" in asked.body else well(asked)  # noqa: E731
    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url, "--max-retries", "0") as service,
    ):
        running = asyncio.ensure_future(
            code_of(service.chat.Complete(request("slow"), metadata=CALLER, timeout=20))
        )
        await upstream.asked()
        soft, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (service.descriptors(), hard))
        refused = await failing(ask(service, timeout=10))
        finish.set()
        slow = await running
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (soft, hard))
        async with aio.insecure_channel(service.address) as channel:
            async with asyncio.timeout(20):
                await channel.channel_ready()
        after = await code_of(ask(service, timeout=60))
        heard(service.command.error_text, str(refused))

    table("no file descriptor left", "running OK, new UNAVAILABLE UPSTREAM_CONNECT_FAILED, then OK",
          f"running {slow}, new {refused.code.name} {refused.info.reason}, then {after}")  # fmt: skip


async def test_disk_full(table):
    """Where the log cannot be written, the service goes on without it."""
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123  a device
        async with (
            ScriptedUpstream(well) as upstream,
            served(upstream.base_url, stderr=full.fileno()) as service,
        ):
            codes = {await code_of(ask(service, timeout=10)) for _ in range(50)}
            service.command.signal(signal.SIGTERM)
            status = await service.command.ended()

    table("the disk with the log is full", "OK, status 0", f"{', '.join(codes)}, status {status}")


async def test_log_pipe_blocked(table):
    """Nobody reads the log: calls are answered, and the end is an orderly one."""
    read_end, write_end = os.pipe()
    try:
        async with ScriptedUpstream(well) as upstream, served(upstream.base_url, stderr=write_end) as service:
            codes = {await code_of(ask(service, timeout=10)) for _ in range(400)}
            service.command.signal(signal.SIGTERM)
            status = await service.command.ended()
    finally:
        os.close(read_end)
        os.close(write_end)

    table("the log's pipe is blocked", "OK, status 0", f"{', '.join(codes)}, status {status}")


async def test_messages_of_refused_callers(table, heard):
    """Forty refused calls of 8 MB each: their messages are never held, nor more than a part of them on the way."""
    async with (
        ScriptedUpstream(well) as upstream,
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
        heard(service.command.error_text)

    table("40 refused callers with 8 MB each", "UNAUTHENTICATED, peak below half of 320 MB, then OK", f"{', '.join(codes)}, peak {grown:.0f} MiB, then {after}",
          holds=(codes, after) == ({"UNAUTHENTICATED"}, "OK") and grown < 150)  # fmt: skip


async def test_memory_limit_near(stage, table):
    """A process that is short of memory ends what it has begun and begins nothing."""
    finish, short = asyncio.Event(), [False]
    async with stage(lambda asked: (begun(piece()), Pause(finish), *END)) as scene:
        scene.app.admission._short_of_memory = lambda: short[0]
        running = scene.begin("StreamComplete")
        waiting = asyncio.ensure_future(scene.ended(running))
        await scene.upstream.asked()
        short[0] = True
        refused = await scene.ask("StreamComplete")
        finish.set()
        ended = await waiting
        short[0] = False

    table(
        "the memory limit is near",
        "the running call OK, a new one UNAVAILABLE OVERLOADED",
        f"the running call {ended.code}, a new one {refused.code} {refused.reason}",
    )


@pytest.mark.parametrize("step_s", [3600, -3600])
async def test_clock_step(step_s, stage, table, monkeypatch):
    """The time of day jumps by an hour in the middle of calls: no call fails, none is immortal."""
    wall_s = [0.0]
    real = time.time
    finish = asyncio.Event()
    async with stage(
        lambda asked: (Pause(finish), *well(asked)), wall_clock=lambda: real() + wall_s[0]
    ) as scene:
        fine = scene.begin("Complete", timeout=5)
        short = scene.begin("StreamComplete", timeout=0.6)
        waiting = [asyncio.ensure_future(scene.ended(call)) for call in (fine, short)]
        await scene.upstream.asked(2)
        wall_s[0] = step_s
        monkeypatch.setattr(time, "time", lambda: real() + step_s)
        ended = await waiting[1]
        finish.set()
        answered = await waiting[0]
        monkeypatch.undo()

    table(
        f"the clock steps by {step_s:+} s",
        "OK / DEADLINE_EXCEEDED CALLER_DEADLINE",
        f"{answered.code} / {ended.code} {ended.reason}",
    )


async def test_key_rotation(table, heard, tmp_path):
    """A key file that is replaced counts from the next call on."""
    file = tmp_path / "key"
    file.write_text(CANARY_KEY + "\n", encoding="ascii")
    async with (
        ScriptedUpstream(well) as upstream,
        served(upstream.base_url, environment={"TOGETHER_API_KEY_FILE": str(file)}) as service,
    ):
        await ask(service)
        file.with_suffix(".new").write_text("canary-of-tomorrow-0123456789", encoding="ascii")
        file.with_suffix(".new").rename(file)
        await ask(service)
        keys = [one.headers["authorization"] for one in upstream.ledger.requests]
        heard(service.command.error_text)

    table("the upstream's key is replaced", "Bearer canary-of-tomorrow-0123456789", keys[-1])
    assert f"Bearer {CANARY_KEY}" == keys[0]
