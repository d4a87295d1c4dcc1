"""The command `togetherchat-server` as a process: start, output, errors, signals and exit."""

import asyncio
import fcntl
import json
import os
import signal
import socket
import time
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support import openai
from support.app import CANARY_KEY, CANARY_PROMPT, collect, failing, request
from support.channels import goaway_received
from support.command import running_command
from support.http2_peer import END_STREAM, HEADERS, http2_peer
from support.http_client import get_page
from support.ports import reserved_address
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Stall, json_response, paused_sse
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_client import connect_async, text_of
from togetherchat_server.config import Settings

COMPLETE = "/togetherchat.v1.ChatService/Complete"
LOOPBACK = ("--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
FLAGS = ("--grpc-listen", "--health-listen", "--admin-listen")
CANARY_ANSWER = "canary answer, never to be seen in a log"
SANDBOX_MODEL = "openai/gpt-oss-120b"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def completing(text="Hi"):
    """Return a script that completes every call with this text."""
    return always(json_response(200, openai.completion(text)))


def addresses_in(banner):
    """Return the addresses in the banner: gRPC, health, admin."""
    found = dict.fromkeys(("gRPC on ", "health on ", "admin on http://"))
    for part in banner.partition("SERVING: ")[2].split(", "):
        for prefix in found:
            if part.startswith(prefix):
                found[prefix] = part.removeprefix(prefix)
    return tuple(found.values())


@asynccontextmanager
async def serving(*arguments, environment=None):
    """Run the command. Yield it, a stub, and its addresses."""
    async with running_command(*LOOPBACK, *arguments, environment=environment) as command:
        addresses = addresses_in(await command.wait_for_line(" SERVING: "))
        async with aio.insecure_channel(addresses[0], options=[("grpc.enable_retries", 0)]) as channel:
            yield command, service_grpc.ChatServiceStub(channel), addresses


async def failed_start(arguments, environment):
    async with running_command(*arguments, environment=environment) as command:
        return await command.wait_for_exit(), command.lines


async def test_the_sandbox_serves_on_free_ports_and_exits_on_sigterm():
    """The banner names the addresses, calls and pages work there, and SIGTERM ends the process at once."""
    arguments = ("--sandbox", "--sandbox-tokens-per-second", "0", "--log-format", "text")
    async with serving(*arguments) as (command, chat, addresses):
        _, health, admin = addresses
        answer = await chat.Complete(request(model=SANDBOX_MODEL))
        pages = {path: await get_page(admin, path) for path in ("/healthz", "/readyz", "/version", "/other")}
        start_s = time.monotonic()
        command.signal(signal.SIGTERM)
        status = await command.wait_for_exit()
        took_s = time.monotonic() - start_s

    assert answer.choices[0].message.content[0].text
    assert health is None
    assert {"/healthz": 200, "/readyz": 200, "/version": 200, "/other": 404} == {
        path: page.status for path, page in pages.items()
    }
    assert "togetherchat" == json.loads(pages["/version"].text)["name"]
    assert 0 == status
    assert 3 > took_s
    assert any({"Complete", "OK"} <= set(line.split()) for line in command.lines)
    assert "simulated completions from http://127.0.0.1:" in command.error_text
    assert "Traceback" not in command.error_text


async def test_an_invalid_configuration_is_rejected_with_one_line(tmp_path):
    """Exit status 2, and a line that names the setting or its fix."""
    bad_file, unknown_file = tmp_path / "bad.toml", tmp_path / "strange.toml"
    bad_file.write_text("listen = [")
    unknown_file.write_text("lisen = '127.0.0.1:0'")
    key = {"TOGETHER_API_KEY": CANARY_KEY}
    table = {
        "set TOGETHER_API_KEY": ((), {}),
        "--nonsense": (("--nonsense",), key),
        "--call-timeout-s": (("--call-timeout-s", "soon"), key),
        "is not TOML": (("--config", str(bad_file)), key),
        "lisen": (("--config", str(unknown_file)), key),
        "the aliases form a cycle: a -> b -> a": (("--alias", "a=b", "--alias", "b=a"), key),
        "neither a model of the catalog": (("--alias", "fast=no/such", "--workers", "2"), key),
        "--allow-unauthenticated": (("--grpc-listen", "0.0.0.0:0"), key),
        "TOGETHER_API_KEY: the key": ((), {"TOGETHER_API_KEY": f"{CANARY_KEY}\nx"}),
    }
    results = await asyncio.gather(*(failed_start(*row) for row in table.values()))

    for text, (status, lines) in zip(table, results, strict=True):
        assert (2, 1) == (status, len(lines)), lines
        assert lines[0].startswith("togetherchat-server: ")
        assert text in lines[0]
        assert CANARY_KEY not in lines[0]


async def test_an_address_in_use_is_named_in_one_line():
    """Exit status 1, the address and the reason, for each of the three listeners."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        starts = [{**dict.fromkeys(FLAGS, "127.0.0.1:0"), flag: f"127.0.0.1:{port}"} for flag in FLAGS]
        results = await asyncio.gather(
            *(
                failed_start(("--sandbox", *(item for pair in flags.items() for item in pair)), {})
                for flags in starts
            )
        )

    for status, lines in results:
        assert (1, 1) == (status, len(lines)), lines
        assert "cannot serve" in lines[0]
        assert port in lines[0]
        assert "already in use" in lines[0].lower()


async def test_sigterm_finishes_a_stream_and_rejects_new_calls():
    """Readiness and health change at once, the stream is complete, and the exit status is 0."""
    released = asyncio.Event()
    async with (
        ScriptedUpstream(always(paused_sse(released))) as upstream,
        serving(
            "--health-listen", "127.0.0.1:0", environment={"TOGETHER_BASE_URL": upstream.base_url}
        ) as running,
        aio.insecure_channel(running[2][0], options=[("grpc.enable_retries", 0)]) as channel_of_the_stream,
    ):
        command, _, (_, health, admin) = running
        chat = service_grpc.ChatServiceStub(channel_of_the_stream)
        stream = chat.StreamComplete(request())
        messages = [await stream.read()]
        async with aio.insecure_channel(health) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            before = (await watch.read()).status
            command.signal(signal.SIGTERM)
            after = (await watch.read()).status
        readiness, liveness = await get_page(admin, "/readyz"), await get_page(admin, "/healthz")
        await goaway_received(channel_of_the_stream)
        rejected = await failing(chat.Complete(request()))
        released.set()
        while (message := await stream.read()) is not aio.EOF:
            messages.append(message)
        status = await command.wait_for_exit()

    assert (SERVING, NOT_SERVING) == (before, after)
    assert (503, 200) == (readiness.status, liveness.status)
    assert grpc.StatusCode.UNAVAILABLE is rejected.code
    assert "Hi there" == "".join(message.delta.text for message in messages)
    assert messages[-1].HasField("completed")
    assert 0 == status
    assert "Traceback" not in command.error_text


async def test_calls_are_accepted_during_the_drain_delay_until_a_second_signal():
    """Load balancers have time to notice. A second signal ends the delay."""
    async with (
        ScriptedUpstream(completing()) as upstream,
        serving("--drain-delay-s", "600", environment={"TOGETHER_BASE_URL": upstream.base_url}) as running,
    ):
        command, chat, (_, _, admin) = running
        command.signal(signal.SIGTERM)
        await command.wait_for_line("not serving")
        readiness = (await get_page(admin, "/readyz")).status
        answer = await chat.Complete(request())
        command.signal(signal.SIGTERM)
        status = await command.wait_for_exit()

    assert (503, 0) == (readiness, status)
    assert "Hi" == answer.choices[0].message.content[0].text


async def test_a_client_that_watches_health_is_served_during_the_drain_delay():
    """With one connection to one address, as through a cluster's Service, its calls do not fail."""
    async with serving("--sandbox", "--drain-delay-s", "600") as (command, _, (rpc, _, _)):
        async with connect_async(rpc) as client:
            before = text_of(await client.complete(SANDBOX_MODEL, "echo: yes"))
            command.signal(signal.SIGTERM)
            await command.wait_for_line("not serving")
            after = [text_of(await client.complete(SANDBOX_MODEL, "echo: yes")) for _ in range(5)]
        command.signal(signal.SIGTERM)
        await command.wait_for_exit()

    assert ["yes"] * 6 == [before, *after]


async def test_sigint_skips_the_drain_delay():
    """Ctrl-C on a terminal has no load balancer to wait for."""
    async with serving("--sandbox", "--drain-delay-s", "600") as (command, _, _):
        command.signal(signal.SIGINT)

        assert 0 == await command.wait_for_exit()
    assert "Traceback" not in command.error_text


async def test_a_second_sigterm_aborts_calls_in_flight():
    """They fail with DRAINING, and the process exits at once."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        serving("--drain-timeout-s", "600", environment={"TOGETHER_BASE_URL": upstream.base_url}) as running,
    ):
        command, chat, _ = running
        unary = asyncio.create_task(failing(chat.Complete(request())))
        stream = asyncio.create_task(collect(chat.StreamComplete(request())))
        await upstream.received(2)
        command.signal(signal.SIGTERM)
        await command.wait_for_line("not serving")
        command.signal(signal.SIGTERM)
        start_s = time.monotonic()
        failures = [await unary, (await stream)[1]]
        status = await command.wait_for_exit()
        took_s = time.monotonic() - start_s

    assert 0 == status
    assert 5 > took_s
    for failure in failures:
        assert (grpc.StatusCode.UNAVAILABLE, "DRAINING") == (failure.code, failure.info.reason)


async def test_sigterm_during_the_start_exits_without_a_traceback():
    """The signal kills the process before the handler is installed, and stops it afterwards."""

    async def signalled(after_s):
        async with running_command("--sandbox", *LOOPBACK) as command:
            await asyncio.sleep(after_s)
            command.signal(signal.SIGTERM)
            return await command.wait_for_exit(), command.error_text

    for status, text in await asyncio.gather(*(signalled(0.2 * number) for number in range(5))):
        assert status in {0, -signal.SIGTERM}, text
        assert "Traceback" not in text


async def test_help_names_every_setting():
    """Also the variables of the provider, and `--config`."""
    async with running_command("--help") as command:
        text = (await command.process.stdout.read()).decode()
        status = await command.wait_for_exit()

    assert 0 == status
    for name in Settings.model_fields:
        assert "--" + name.replace("_", "-") in text
    for name in ("--config", "TOGETHER_API_KEY", "TOGETHER_API_KEY_FILE", "TOGETHER_BASE_URL"):
        assert name in text


async def test_log_lines_are_json_without_keys_prompts_and_completions():
    """One object per call. Invalid headers of callers do not appear either."""
    odd = [("authorization", f"Bearer {CANARY_KEY}".encode() + b"\xff"), ("x-request-id", b"canary\xff")]
    error = openai.error(f"bad key {CANARY_KEY}: {CANARY_PROMPT}")
    async with ScriptedUpstream(completing(CANARY_ANSWER)) as upstream:
        environment = {"TOGETHER_API_KEY": CANARY_KEY, "TOGETHER_BASE_URL": upstream.base_url}
        async with serving("--log-format", "json", environment=environment) as (
            command,
            chat,
            (address, _, _),
        ):
            await chat.Complete(request(), metadata=[("x-request-id", "first")])
            upstream.script = always(json_response(401, error))
            await failing(chat.Complete(request(), metadata=[("x-request-id", "second")]))
            async with http2_peer(address) as peer:
                peer.call(1, COMPLETE, request().SerializeToString(), odd)
                await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)
            command.signal(signal.SIGTERM)
            await command.wait_for_exit()

    records = [json.loads(line) for line in command.lines if " SERVING: " not in line]
    calls = [record for record in records if record["event"] == "call"]
    assert [("first", "OK"), ("second", "UNAUTHENTICATED")] == [
        (call["id"], call["code"]) for call in calls[:2]
    ]
    assert "SERVICE_KEY_REJECTED" == calls[2]["reason"]
    assert any("Invalid encoding" in record.get("message", "") for record in records)
    assert "canary" not in command.error_text


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="only Linux can shrink a pipe")
async def test_a_log_that_nobody_reads_does_not_block_the_service():
    """With a full pipe, valid and hostile calls get responses, and the exit is clean."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with reserved_address() as address:
            arguments = ("--grpc-listen", address, "--admin-listen", "off", "--log-format", "json")
            async with (
                ScriptedUpstream(completing()) as upstream,
                running_command(
                    *arguments, stderr=write_end, environment={"TOGETHER_BASE_URL": upstream.base_url}
                ) as command,
                aio.insecure_channel(address) as channel,
            ):
                chat = service_grpc.ChatServiceStub(channel)
                for _ in range(60):
                    await chat.Complete(request(), wait_for_ready=True, timeout=20)
                async with http2_peer(address) as peer:
                    for number in range(20):
                        peer.call(2 * number + 1, "/x/Y", b"", [("x-request-id", b"\xff" * 100)])
                    await peer.seen(lambda frame: frame.kind == HEADERS and frame.stream == 39)
                await chat.Complete(request(), timeout=20)
                command.signal(signal.SIGTERM)
                status = await command.wait_for_exit()
        written = os.read(read_end, 2**20).decode(errors="replace")
    finally:
        os.close(read_end)
        os.close(write_end)

    assert 0 == status
    assert written.count('"event":"call"') < 61  # otherwise the pipe was not full
