"""Both listeners over TLS: who gets in, what is shown, and files that are replaced meanwhile."""

import asyncio
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import warnings
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.app import CANARY_KEY, collect, failing, request, running_app
from support.certificates import OPENSSL
from support.command import running_command
from support.fleet import running_fleet
from support.http_client import COMPLETIONS, ask
from support.scripted_upstream import ScriptedUpstream, always
from support.tls import CANARY_COMMENT, Pair, caller_context, credentials, expired, replace, shaken
from support.upstream_script import Pause, Send, chunk, sse_head
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.frontends.http import server

pytest_plugins = ["support.tls_fixtures"]

SERVING = health_pb2.HealthCheckResponse.SERVING
LISTENERS = ["grpc", "http"]
PROTOCOLS = {"grpc": "h2", "http": "http/1.1"}
SANDBOX = ("--sandbox", "--sandbox-tokens-per-second", "0", "--log-format", "json")
NOWHERE = ("--grpc-listen", "127.0.0.1:0", "--admin-listen", "off")


@pytest.fixture
def serving(folder):
    @asynccontextmanager
    async def served(base_url=None, *, mutual=False, **settings):
        settings = {"http_listen": "127.0.0.1:0", "sandbox_tokens_per_second": 0, **settings}
        async with running_app(base_url, **folder.settings(mutual=mutual), **settings) as app:
            yield app

    return served


@asynccontextmanager
async def chatting(address, given):
    """A stub on a channel of its own: gRPC's channels share their connections by default."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with aio.secure_channel(address, given, options) as channel:
        yield service_grpc.ChatServiceStub(channel)


async def ask_over_http(address, context):
    """The status of a whole answer of the door."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    body = json.dumps(ask()).encode()
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ")[1])


async def page(address, path):
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    return json.loads(body)


async def test_calls_are_answered_on_both_listeners(serving, folder, pairs):
    """With the certificate of the files, h2 for gRPC and HTTP/1.1 for the door."""
    async with serving() as app, chatting(app.addresses.grpc, credentials(pairs[0])) as chat:
        answer = await chat.Complete(request())
        status = await ask_over_http(app.addresses.http, caller_context(pairs[0], folder.path))
        seen = {
            name: await shaken(
                getattr(app.addresses, name),
                caller_context(pairs[0], folder.path, alpn=["h2", "http/1.1"] if name == "http" else ["h2"]),
            )
            for name in LISTENERS
        }

    assert answer.choices[0].message.content[0].text
    assert 200 == status
    assert PROTOCOLS == {name: one.protocol for name, one in seen.items()}
    assert {pairs[0].sha256} == {one.sha256 for one in seen.values()}


async def test_the_certificate_is_in_the_log_and_its_end_on_vars(serving, pairs):
    """An operator reads which one is served; a monitor sees its end come."""
    async with serving(wall_clock=lambda: 32503680000.0 - 3600) as app:
        counted = await page(app.addresses.admin, "/vars")
    lines = [json.loads(line) for line in app.log.getvalue().splitlines()]

    assert 3600 == counted["tls_certificate_expires_s"]
    assert [
        f"TLS certificate: until 3000-01-01T00:00:00+00:00 sha256 {pairs[0].sha256} for localhost, 127.0.0.1"
    ] == ([line["message"] for line in lines if "TLS" in line.get("message", "")])


async def test_an_expired_certificate_is_served_with_a_warning(serving, folder, authority):
    """It may be a clock that is wrong; callers decide, and the operator hears of it."""
    folder.put(expired(authority))
    async with serving() as app:
        pass

    assert "callers will refuse the TLS certificate: it is valid at another time" in app.log.getvalue()


async def test_a_caller_in_plain_text_is_not_served(serving):
    """gRPC's client hears UNAVAILABLE, an HTTP client the end of its connection; the service goes on."""
    async with serving() as app:
        refused = await failing(app.chat.Complete(request()))
        host, _, port = app.addresses.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        heard = await reader.read()
        writer.close()

    assert grpc.StatusCode.UNAVAILABLE is refused.code
    assert b"HTTP" not in heard
    assert [] == app.records()


async def test_a_caller_who_trusts_another_authority_does_not_speak(serving, stranger):
    """It hears that the certificate is not verified, and no call was made."""
    async with serving() as app:
        for_strangers = credentials(Pair(stranger))
        async with chatting(app.addresses.grpc, for_strangers) as chat:
            refused = await failing(chat.Complete(request()))

    assert grpc.StatusCode.UNAVAILABLE is refused.code
    assert "CERTIFICATE_VERIFY_FAILED" in refused.message
    assert [] == app.records()


@pytest.mark.parametrize("listener", LISTENERS)
async def test_versions_before_tls_1_2_are_refused(serving, listener):
    """A caller that speaks 1.1 at most gets no handshake; one that speaks 1.2 does."""
    async with serving() as app:
        address = getattr(app.addresses, listener)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shaken(address, old_caller(ssl.TLSVersion.TLSv1_1))
        seen = await shaken(address, old_caller(ssl.TLSVersion.TLSv1_2))

    assert PROTOCOLS[listener] == seen.protocol


def old_caller(version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    return context


async def test_where_certificates_are_asked_for_a_caller_without_makes_no_call(
    serving, folder, pairs, authority, stranger
):
    """Neither with none nor with a stranger's; one of the authority is served. On both listeners."""
    own, foreign = Pair(authority, "service-a.example.com"), Pair(stranger, "service-a.example.com")
    async with serving(mutual=True) as app:
        refused = []
        for shown in (None, foreign):
            async with chatting(app.addresses.grpc, credentials(pairs[0], shown)) as chat:
                refused.append((await failing(chat.Complete(request()))).code)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await shaken(app.addresses.http, caller_context(pairs[0], folder.path, shown))
        async with chatting(app.addresses.grpc, credentials(pairs[0], own)) as chat:
            await chat.Complete(request())
        status = await ask_over_http(app.addresses.http, caller_context(pairs[0], folder.path, own))

    assert [grpc.StatusCode.UNAVAILABLE] * 2 == refused
    assert 200 == status
    assert ["grpc", "http"] == [record["protocol"] for record in app.records()]


async def test_probes_need_no_certificate(serving):
    """A kubelet speaks plain text and shows nothing: the listener for health stays as it is."""
    async with (
        serving(mutual=True, health_listen="127.0.0.1:0") as app,
        aio.insecure_channel(app.addresses.health) as channel,
    ):
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

    assert SERVING == health.status


async def test_a_handshake_that_fails_leaves_nothing_behind(serving, pairs, folder):
    """It is no connection that is counted, and the next one is served."""
    async with serving() as app:
        host, _, port = app.addresses.http.rpartition(":")
        for _ in range(3):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"no handshake\r\n\r\n")
            await reader.read()
            writer.close()
        open_between = (await page(app.addresses.admin, "/vars"))["http_connections"]
        status = await ask_over_http(app.addresses.http, caller_context(pairs[0], folder.path))

    assert 0 == open_between
    assert 200 == status


async def test_a_peer_that_does_not_shake_hands_is_let_go(serving, monkeypatch):
    """It said nothing, and holds its place for so long at most. gRPC's bound is an option of its server."""
    monkeypatch.setattr(server, "HANDSHAKE_S", 0.2)
    async with serving() as app:
        host, _, port = app.addresses.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        heard = await reader.read()
        writer.close()

    assert b"" == heard


async def test_new_handshakes_see_the_new_certificate_and_a_running_stream_goes_on(serving, folder, pairs):
    """Files are replaced in the middle of a stream: it ends whole, and who comes next sees them."""
    released = asyncio.Event()
    end = event(" there", "stop") + chunk(b"data: [DONE]\n\n") + chunk(b"")
    script = always((Send(sse_head() + event("Hi")), Pause(released), Send(end)))
    context = caller_context(pairs[0], folder.path)
    async with (
        ScriptedUpstream(script) as upstream,
        serving(upstream.base_url) as app,
        chatting(app.addresses.grpc, credentials(pairs[0])) as chat,
    ):
        stream = chat.StreamComplete(request())
        await anext(aiter(stream))
        before = await shaken(app.addresses.http, context)
        folder.put(pairs[1])
        after = [await shaken(app.addresses.http, context)]
        after.append(await shaken(app.addresses.grpc, caller_context(pairs[0], folder.path, alpn=["h2"])))
        released.set()
        events, failure = await collect(stream)
        async with chatting(app.addresses.grpc, credentials(pairs[1])) as another:
            again, _ = await collect(another.StreamComplete(request()))

    assert pairs[0].sha256 == before.sha256
    assert [pairs[1].sha256] * 2 == [seen.sha256 for seen in after]
    assert failure is None
    assert events[-1].HasField("completed")
    assert again[-1].HasField("completed")
    assert 1 == app.log.getvalue().count("TLS certificate replaced")


def event(text, finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    body = json.dumps({"id": "oid-1", "created": 1, "model": "m", "choices": [choice]})
    return chunk(b"data: " + body.encode() + b"\n\n")


@pytest.mark.parametrize("listener", LISTENERS)
async def test_while_the_files_do_not_belong_together_the_old_pair_is_shown(serving, folder, pairs, listener):
    """A certificate without its key, and half a file: handshakes go on, and the log says it once each."""
    context = caller_context(pairs[0], folder.path, alpn=[PROTOCOLS[listener]])
    async with serving() as app:
        address = getattr(app.addresses, listener)
        replace(folder.certificate, pairs[1].chain)
        between = [(await shaken(address, context)).sha256 for _ in range(2)]
        replace(folder.key, pairs[1].key[: len(pairs[1].key) // 2])
        between += [(await shaken(address, context)).sha256 for _ in range(2)]
        replace(folder.key, pairs[1].key)
        after = (await shaken(address, context)).sha256
    log = app.log.getvalue()

    assert [pairs[0].sha256] * 4 == between
    assert pairs[1].sha256 == after
    assert 2 == log.count("the TLS files before stay in force")
    assert CANARY_COMMENT not in log
    assert "PRIVATE KEY" not in log


@pytest.mark.parametrize("listener", LISTENERS)
async def test_an_authority_that_is_taken_away_lets_nobody_in(
    serving, folder, pairs, authority, stranger, listener
):
    """Not even who was there before: a ticket of the time when it was trusted opens nothing."""
    theirs, others = Pair(authority, "a.example.com"), Pair(stranger, "b.example.com")
    context = caller_context(pairs[0], folder.path, theirs, alpn=[PROTOCOLS[listener]])
    async with serving(mutual=True) as app:
        address = getattr(app.addresses, listener)
        first = await shaken(address, context)
        resumed = await shaken(address, context, session=first.session)
        folder.put(pairs[0], client_ca=stranger)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shaken(address, context, session=resumed.session)
        seen = await shaken(
            address, caller_context(pairs[0], folder.path, others, alpn=[PROTOCOLS[listener]])
        )

    assert resumed.resumed
    assert pairs[0].sha256 == seen.sha256


async def test_every_worker_shows_the_new_certificate(folder, pairs):
    """Each looks at the files for itself; none is restarted."""
    context = caller_context(pairs[0], folder.path, alpn=["h2"])
    async with running_fleet(*folder.flags()) as fleet:
        before = await fleet.all_serve()
        first = {(await shaken(fleet.rpc, context)).sha256 for _ in range(8)}
        folder.put(pairs[1])
        seen = {(await shaken(fleet.rpc, context)).sha256 for _ in range(24)}
        after = await fleet.all_serve()
        replaced = [line for line in fleet.command.lines if "TLS certificate replaced" in line]

    assert {pairs[0].sha256} == first
    assert {pairs[1].sha256} == seen
    assert before == after
    assert 1 <= len(replaced) <= 2


async def test_files_that_cannot_be_used_stop_the_start_with_one_line(folder, pairs):
    """Exit status 2, the reason, and nothing of a key; with workers the supervisor says it."""
    replace(folder.key, pairs[1].key)
    key = {"TOGETHER_API_KEY": CANARY_KEY}
    table = {
        f"{folder.key} is not the key of {folder.certificate}": (*folder.flags(), "--workers", "2"),
        "--tls-cert-file needs its private key": ("--tls-cert-file", str(folder.certificate)),
    }
    for said, words in table.items():
        async with running_command(*NOWHERE, *words, environment=key) as command:
            assert 2 == await command.ended()
        assert 1 == len(command.lines), command.lines
        assert said in command.lines[0]
        assert CANARY_COMMENT not in command.lines[0]


async def test_the_greeting_names_lines_that_work_over_tls(folder):
    """A caller needs the authority, and a certificate where one is asked for."""
    words = ("--http-listen", "127.0.0.1:0", "--sandbox", *folder.flags(mutual=True))
    async with running_command(*NOWHERE, *words) as command:
        greeting = await command.said("SERVING: ")
        await command.said("curl --cacert")
        command.signal(signal.SIGTERM)
        await command.ended()

    assert "HTTP on https://127.0.0.1:" in greeting
    assert "  grpcurl -cacert ca.pem -cert caller.pem -key caller.key 127.0.0.1:" in command.error_text
    assert "  curl --cacert ca.pem --cert caller.pem --key caller.key https://" in command.error_text


PAGE = (Path(__file__).parents[2] / "docs" / "tls.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(not OPENSSL, reason="no openssl command")
async def test_the_lines_of_the_page_work(tmp_path):
    """The certificates that it makes are served and shown; addresses and programs are this test's."""
    start, make, call, curl = BLOCKS
    made = await asyncio.create_subprocess_exec(
        "bash", "-e", "-c", make, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    words = [str(tmp_path / word) if "." in word and ":" not in word else word for word in shlex.split(start)]
    assert 0 == await made.wait()
    async with running_command(
        "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off", "--sandbox", *words[3:]
    ) as command:
        address = (await command.said("SERVING: ")).partition("gRPC on ")[2].partition(",")[0]
        line = call.splitlines()[0].replace("localhost:50051", address)
        called = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "togetherchat_client.cli", *shlex.split(line)[1:],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=tmp_path, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await called.communicate()

    assert ["togetherchat-server", "--grpc-listen", "0.0.0.0:50051"] == words[:3]
    assert (0, True) == (called.returncode, bool(out))
    assert "--cacert ca.pem --cert caller.pem --key caller.key" in curl


@pytest.mark.skipif(sys.platform != "linux", reason="an address of this machine that is not written as one")
async def test_a_start_warns_once_of_callers_keys_in_plain_text():
    """With workers, too: it is said by the process that was started, before anything is served."""
    words = (
        "--grpc-listen",
        "127.0.0.2:0",
        "--admin-listen",
        "off",
        "--upstream-credentials",
        "caller",
        "--workers",
        "2",
    )
    async with running_command(*words, environment={"TOGETHER_BASE_URL": "http://127.0.0.1:1"}) as command:
        await command.said("SERVING: ")
        command.signal(signal.SIGTERM)
        await command.ended()

    assert command.lines[0].startswith(
        "togetherchat-server: warning: --grpc-listen 127.0.0.2:0 receives callers' keys in plaintext: set --tls-cert-file"
    )
    assert 1 == command.error_text.count("warning:")
