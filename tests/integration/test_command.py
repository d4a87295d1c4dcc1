"""The command `togetherchat-server` as a process: what it says, refuses, survives and how it ends."""

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

from support.app import CANARY_KEY, CANARY_PROMPT, collect, failing, request
from support.channels import goaway_received
from support.command import running_command
from support.http2_peer import END_STREAM, HEADERS, http2_peer
from support.ports import reserved_address
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, Stall, chunk, json_answer, sse_head
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


def event(text, finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    body = json.dumps({"id": "oid-1", "created": 1, "model": "m", "choices": [choice]})
    return chunk(b"data: " + body.encode() + b"\n\n")


def streaming_until(released):
    """A stream that says one word, waits, and says the rest."""
    end = event("there", "stop") + chunk(b"data: [DONE]\n\n") + chunk(b"")
    return always((Send(sse_head() + event("Hi ")), Pause(released), Send(end)))


def whole_answer(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return always(json_answer(200, {"id": "oid-1", "created": 1, "model": "m", "choices": [choice]}))


def places(line):
    """The addresses in the SERVING line: of the service, of health, of admin."""
    found = dict.fromkeys(("gRPC on ", "health on ", "admin on http://"))
    for part in line.partition("SERVING: ")[2].split(", "):
        for words in found:
            if part.startswith(words):
                found[words] = part.removeprefix(words)
    return tuple(found.values())


@asynccontextmanager
async def serving(*words, environment=None):
    """A command that serves, a stub for it, and its addresses."""
    async with running_command(*LOOPBACK, *words, environment=environment) as command:
        addresses = places(await command.said(" SERVING: "))
        async with aio.insecure_channel(addresses[0], options=[("grpc.enable_retries", 0)]) as channel:
            yield command, service_grpc.ChatServiceStub(channel), addresses


async def page(admin, path):
    """The status and the body of a page of the admin port."""
    host, _, port = admin.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {admin}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ")[1]), body.decode()


async def refusal(words, environment):
    async with running_command(*words, environment=environment) as command:
        return await command.ended(), command.lines


async def test_the_sandbox_serves_on_free_ports_and_ends_on_sigterm():
    """One line names the addresses; calls and pages work there; SIGTERM ends it at once."""
    async with serving("--sandbox", "--sandbox-tokens-per-second", "0") as (command, chat, addresses):
        _, health, admin = addresses
        answer = await chat.Complete(request(model=SANDBOX_MODEL))
        pages = {path: await page(admin, path) for path in ("/healthz", "/readyz", "/version", "/other")}
        begun_s = time.monotonic()
        command.signal(signal.SIGTERM)
        status = await command.ended()
        took_s = time.monotonic() - begun_s

    assert answer.choices[0].message.content[0].text
    assert health is None
    assert {"/healthz": 200, "/readyz": 200, "/version": 200, "/other": 404} == {
        path: status for path, (status, _) in pages.items()
    }
    assert "togetherchat" == json.loads(pages["/version"][1])["name"]
    assert 0 == status
    assert 3 > took_s
    assert any({"Complete", "OK"} <= set(line.split()) for line in command.lines)
    assert "simulated answers from http://127.0.0.1:" in command.error_text
    assert "Traceback" not in command.error_text


async def test_what_cannot_work_is_refused_with_one_line(tmp_path):
    """Exit status 2 and one line that says what to do, for every way to set it up wrong."""
    bad_file, strange_file = tmp_path / "bad.toml", tmp_path / "strange.toml"
    bad_file.write_text("listen = [")
    strange_file.write_text("lisen = '127.0.0.1:0'")
    key = {"TOGETHER_API_KEY": CANARY_KEY}
    table = {
        "set TOGETHER_API_KEY": ((), {}),
        "--nonsense": (("--nonsense",), key),
        "--call-timeout-s": (("--call-timeout-s", "soon"), key),
        "is not TOML": (("--config", str(bad_file)), key),
        "lisen": (("--config", str(strange_file)), key),
        "the aliases form a cycle: a -> b -> a": (("--alias", "a=b", "--alias", "b=a"), key),
        "neither a model of the catalog": (("--alias", "fast=no/such", "--workers", "2"), key),
        "--allow-unauthenticated": (("--grpc-listen", "0.0.0.0:0"), key),
        "TOGETHER_API_KEY: the key": ((), {"TOGETHER_API_KEY": f"{CANARY_KEY}\nx"}),
    }
    seen = await asyncio.gather(*(refusal(words, environment) for words, environment in table.values()))

    for words, (status, lines) in zip(table, seen, strict=True):
        assert (2, 1) == (status, len(lines)), lines
        assert lines[0].startswith("togetherchat-server: ")
        assert words in lines[0]
        assert CANARY_KEY not in lines[0]


async def test_a_port_that_is_taken_is_said_in_one_line():
    """Exit status 1, the address and the reason, for each of the three listeners."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        wanted = [{**dict.fromkeys(FLAGS, "127.0.0.1:0"), flag: f"127.0.0.1:{port}"} for flag in FLAGS]
        seen = await asyncio.gather(
            *(refusal(("--sandbox", *(word for pair in one.items() for word in pair)), {}) for one in wanted)
        )

    for status, lines in seen:
        assert (1, 1) == (status, len(lines)), lines
        assert "cannot serve" in lines[0]
        assert port in lines[0]
        assert "already in use" in lines[0].lower()


async def test_sigterm_lets_a_running_stream_end_and_takes_no_new_call():
    """Readiness and health change at once, new calls are refused, the stream is whole, exit 0."""
    released = asyncio.Event()
    async with (
        ScriptedUpstream(streaming_until(released)) as upstream,
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
        readiness, liveness = await page(admin, "/readyz"), await page(admin, "/healthz")
        await goaway_received(channel_of_the_stream)
        refused = await failing(chat.Complete(request()))
        released.set()
        while (message := await stream.read()) is not aio.EOF:
            messages.append(message)
        status = await command.ended()

    assert (SERVING, NOT_SERVING) == (before, after)
    assert (503, 200) == (readiness[0], liveness[0])
    assert grpc.StatusCode.UNAVAILABLE is refused.code
    assert "Hi there" == "".join(message.delta.text for message in messages)
    assert messages[-1].HasField("completed")
    assert 0 == status
    assert "Traceback" not in command.error_text


async def test_during_propagation_calls_are_still_taken_and_a_second_signal_ends_it():
    """Balancers are given time to notice; whoever is in a hurry signals twice."""
    async with (
        ScriptedUpstream(whole_answer("Hi")) as upstream,
        serving("--drain-delay-s", "600", environment={"TOGETHER_BASE_URL": upstream.base_url}) as running,
    ):
        command, chat, (_, _, admin) = running
        command.signal(signal.SIGTERM)
        await command.said("not serving")
        readiness, _ = await page(admin, "/readyz")
        answer = await chat.Complete(request())
        command.signal(signal.SIGTERM)
        status = await command.ended()

    assert (503, 0) == (readiness, status)
    assert "Hi" == answer.choices[0].message.content[0].text


async def test_during_propagation_a_client_that_watches_health_is_served():
    """One connection to one address, as through a cluster's Service: its calls do not fail meanwhile."""
    async with serving("--sandbox", "--drain-delay-s", "600") as (command, _, (rpc, _, _)):
        async with connect_async(rpc) as client:
            before = text_of(await client.complete(SANDBOX_MODEL, "echo: yes"))
            command.signal(signal.SIGTERM)
            await command.said("not serving")
            after = [text_of(await client.complete(SANDBOX_MODEL, "echo: yes")) for _ in range(5)]
        command.signal(signal.SIGTERM)
        await command.ended()

    assert ["yes"] * 6 == [before, *after]


async def test_sigint_skips_propagation():
    """Ctrl-C on a terminal has no balancer to wait for."""
    async with serving("--sandbox", "--drain-delay-s", "600") as (command, _, _):
        command.signal(signal.SIGINT)

        assert 0 == await command.ended()
    assert "Traceback" not in command.error_text


async def test_a_second_sigterm_ends_at_once_and_tells_running_calls():
    """What still runs ends as DRAINING, with a status that says so."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        serving("--drain-timeout-s", "600", environment={"TOGETHER_BASE_URL": upstream.base_url}) as running,
    ):
        command, chat, _ = running
        unary = asyncio.create_task(failing(chat.Complete(request())))
        stream = asyncio.create_task(collect(chat.StreamComplete(request())))
        await upstream.asked(2)
        command.signal(signal.SIGTERM)
        await command.said("not serving")
        command.signal(signal.SIGTERM)
        begun_s = time.monotonic()
        failures = [await unary, (await stream)[1]]
        status = await command.ended()
        took_s = time.monotonic() - begun_s

    assert 0 == status
    assert 5 > took_s
    for failure in failures:
        assert (grpc.StatusCode.UNAVAILABLE, "DRAINING") == (failure.code, failure.info.reason)


async def test_sigterm_during_the_start_leaves_cleanly():
    """Before the signal is listened to it ends the process, later the stop does; never a traceback."""

    async def started_and_ended(after_s):
        async with running_command("--sandbox", *LOOPBACK) as command:
            await asyncio.sleep(after_s)
            command.signal(signal.SIGTERM)
            return await command.ended(), command.error_text

    for status, text in await asyncio.gather(*(started_and_ended(0.2 * number) for number in range(5))):
        assert status in {0, -signal.SIGTERM}, text
        assert "Traceback" not in text


async def test_help_names_every_setting():
    """What can be set can be found."""
    async with running_command("--help") as command:
        text = (await command.process.stdout.read()).decode()
        status = await command.ended()

    assert 0 == status
    for name in Settings.model_fields:
        assert "--" + name.replace("_", "-") in text
    for name in ("--config", "TOGETHER_API_KEY", "TOGETHER_API_KEY_FILE", "TOGETHER_BASE_URL"):
        assert name in text


async def test_log_lines_are_json_and_hold_no_text_of_anyone():
    """One object a call; keys, prompts and answers are in none of them, nor odd headers of callers."""
    odd = [("authorization", f"Bearer {CANARY_KEY}".encode() + b"\xff"), ("x-request-id", b"canary\xff")]
    told = {"error": {"message": f"bad key {CANARY_KEY}: {CANARY_PROMPT}"}}
    async with ScriptedUpstream(whole_answer(CANARY_ANSWER)) as upstream:
        environment = {"TOGETHER_API_KEY": CANARY_KEY, "TOGETHER_BASE_URL": upstream.base_url}
        async with serving("--log-format", "json", environment=environment) as (
            command,
            chat,
            (address, _, _),
        ):
            await chat.Complete(request(), metadata=[("x-request-id", "first")])
            upstream.script = always(json_answer(401, told))
            await failing(chat.Complete(request(), metadata=[("x-request-id", "second")]))
            async with http2_peer(address) as peer:
                peer.call(1, COMPLETE, request().SerializeToString(), odd)
                await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)
            command.signal(signal.SIGTERM)
            await command.ended()

    records = [json.loads(line) for line in command.lines if " SERVING: " not in line]
    calls = [record for record in records if record["event"] == "call"]
    assert [("first", "OK"), ("second", "UNAUTHENTICATED")] == [(one["id"], one["code"]) for one in calls[:2]]
    assert "SERVICE_KEY_REJECTED" == calls[2]["reason"]
    assert any("Invalid encoding" in record.get("message", "") for record in records)
    assert "canary" not in command.error_text


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="a pipe can be made small on Linux alone")
async def test_a_log_that_nobody_reads_does_not_stop_the_service():
    """With the pipe full calls are answered, hostile ones too, and the end is an orderly one."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with reserved_address() as address:
            words = ("--grpc-listen", address, "--admin-listen", "off", "--log-format", "json")
            async with (
                ScriptedUpstream(whole_answer("Hi")) as upstream,
                running_command(
                    *words, stderr=write_end, environment={"TOGETHER_BASE_URL": upstream.base_url}
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
                status = await command.ended()
        written = os.read(read_end, 2**20).decode(errors="replace")
    finally:
        os.close(read_end)
        os.close(write_end)

    assert 0 == status
    assert written.count('"event":"call"') < 61  # else the pipe was not full
