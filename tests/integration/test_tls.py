"""Both listeners over TLS: accepted and rejected clients, the served certificate, replaced files."""

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
from support.http_client import head, raw_caller, request_body
from support.scraping import scraped
from support.scripted_upstream import ScriptedUpstream, always
from support.tls import CANARY_COMMENT, Pair, client_context, credentials, expired, handshake, replace
from support.upstream_script import paused_sse
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.frontends.http import server
from togetherchat_server.telemetry.metrics import definitions as names

pytest_plugins = ["support.tls_fixtures"]

SERVING = health_pb2.HealthCheckResponse.SERVING
LISTENERS = ["grpc", "http"]
PROTOCOLS = {"grpc": "h2", "http": "http/1.1"}
SANDBOX = ("--sandbox", "--sandbox-tokens-per-second", "0", "--log-format", "json")
FREE_PORTS = ("--grpc-listen", "127.0.0.1:0", "--admin-listen", "off")


@pytest.fixture
def serving(folder):
    @asynccontextmanager
    async def served(base_url=None, *, mutual=False, **settings):
        settings = {"http_listen": "127.0.0.1:0", "sandbox_tokens_per_second": 0, **settings}
        async with running_app(base_url, **folder.settings(mutual=mutual), **settings) as app:
            yield app

    return served


@asynccontextmanager
async def chat_stub(address, channel_credentials):
    """Yield a stub with a connection of its own: by default gRPC's channels share connections."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with aio.secure_channel(address, channel_credentials, options) as channel:
        yield service_grpc.ChatServiceStub(channel)


async def complete_over_http(address, context):
    """Return the status of a complete response over HTTP."""
    async with raw_caller(address, tls=context) as caller:
        await caller.post(request_body(), "connection: close")
        response = await caller.read_to_end()
    return int(response.split(b" ")[1])


async def test_calls_succeed_on_both_listeners(serving, folder, pairs):
    """With the configured certificate; gRPC uses h2, HTTP uses HTTP/1.1."""
    async with serving() as app, chat_stub(app.addresses.grpc, credentials(pairs[0])) as chat:
        answer = await chat.Complete(request())
        status = await complete_over_http(app.addresses.http, client_context(pairs[0], folder.path))
        handshakes = {
            name: await handshake(
                getattr(app.addresses, name),
                client_context(pairs[0], folder.path, alpn=["h2", "http/1.1"] if name == "http" else ["h2"]),
            )
            for name in LISTENERS
        }

    assert answer.choices[0].message.content[0].text
    assert 200 == status
    assert PROTOCOLS == {name: found.protocol for name, found in handshakes.items()}
    assert {pairs[0].sha256} == {found.sha256 for found in handshakes.values()}


async def test_the_certificate_is_in_the_log_and_its_expiry_in_the_metrics(serving, pairs):
    """An operator reads which certificate is served, and a monitor sees its expiry."""
    async with serving(wall_clock=lambda: 32503680000.0 - 3600) as app:
        metrics = await scraped(app.addresses.admin)
    lines = [json.loads(line) for line in app.log.getvalue().splitlines()]

    assert 32503680000 == metrics.value(names.TLS_CERTIFICATE_NOT_AFTER)
    assert [
        f"TLS certificate: expires 3000-01-01T00:00:00+00:00, sha256 {pairs[0].sha256}, for localhost, 127.0.0.1"
    ] == ([line["message"] for line in lines if "TLS" in line.get("message", "")])


async def test_an_expired_certificate_is_served_with_a_warning(serving, folder, authority):
    """The clock may be wrong, so the clients decide."""
    folder.put(expired(authority))
    async with serving() as app:
        pass

    assert "the TLS certificate is not valid now: clients will reject it" in app.log.getvalue()


async def test_a_plaintext_client_is_not_served(serving):
    """A gRPC client fails with UNAVAILABLE. An HTTP client's connection is closed."""
    async with serving() as app:
        rejected = await failing(app.chat.Complete(request()))
        async with raw_caller(app.addresses.http) as caller:
            await caller.send(head(method="GET", path="/v1/models"))
            received = await caller.read_to_end()

    assert grpc.StatusCode.UNAVAILABLE is rejected.code
    assert b"HTTP" not in received
    assert [] == app.records()


async def test_a_client_that_trusts_another_authority_sends_no_call(serving, untrusted):
    """The client's handshake fails with CERTIFICATE_VERIFY_FAILED."""
    async with serving() as app:
        other_credentials = credentials(Pair(untrusted))
        async with chat_stub(app.addresses.grpc, other_credentials) as chat:
            rejected = await failing(chat.Complete(request()))

    assert grpc.StatusCode.UNAVAILABLE is rejected.code
    assert "CERTIFICATE_VERIFY_FAILED" in rejected.message
    assert [] == app.records()


@pytest.mark.parametrize("listener", LISTENERS)
async def test_versions_before_tls_1_2_are_rejected(serving, listener):
    """A client limited to 1.1 cannot connect. One that supports 1.2 can."""
    async with serving() as app:
        address = getattr(app.addresses, listener)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await handshake(address, old_client(ssl.TLSVersion.TLSv1_1))
        seen = await handshake(address, old_client(ssl.TLSVersion.TLSv1_2))

    assert PROTOCOLS[listener] == seen.protocol


def old_client(version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    return context


async def test_client_certificates_are_required_on_both_listeners(
    serving, folder, pairs, authority, untrusted
):
    """A client without one, or with one of another authority, cannot make a call."""
    own, foreign = Pair(authority, "service-a.example.com"), Pair(untrusted, "service-a.example.com")
    async with serving(mutual=True) as app:
        codes = []
        for presented in (None, foreign):
            async with chat_stub(app.addresses.grpc, credentials(pairs[0], presented)) as chat:
                codes.append((await failing(chat.Complete(request()))).code)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await handshake(app.addresses.http, client_context(pairs[0], folder.path, presented))
        async with chat_stub(app.addresses.grpc, credentials(pairs[0], own)) as chat:
            await chat.Complete(request())
        status = await complete_over_http(app.addresses.http, client_context(pairs[0], folder.path, own))

    assert [grpc.StatusCode.UNAVAILABLE] * 2 == codes
    assert 200 == status
    assert ["grpc", "http"] == [record["protocol"] for record in app.records()]


async def test_probes_need_no_certificate(serving):
    """A kubelet uses plaintext: the health listener does not use TLS."""
    async with (
        serving(mutual=True, health_listen="127.0.0.1:0") as app,
        aio.insecure_channel(app.addresses.health) as channel,
    ):
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

    assert SERVING == health.status


async def test_a_failed_handshake_leaves_no_connection(serving, pairs, folder):
    """The gauge does not count the connection, and the next connection is served."""
    async with serving() as app:
        for _ in range(3):
            async with raw_caller(app.addresses.http) as caller:
                await caller.send(b"no handshake\r\n\r\n")
                await caller.read_to_end()
        open_between = (await scraped(app.addresses.admin)).value(names.HTTP_CONNECTIONS)
        status = await complete_over_http(app.addresses.http, client_context(pairs[0], folder.path))

    assert 0 == open_between
    assert 200 == status


async def test_a_connection_without_a_handshake_is_closed(serving, monkeypatch):
    """After the handshake timeout. gRPC's timeout is an option of its server."""
    monkeypatch.setattr(server, "HANDSHAKE_S", 0.2)
    async with serving() as app, raw_caller(app.addresses.http) as caller:
        received = await caller.read_to_end()

    assert b"" == received


async def test_new_handshakes_use_the_new_certificate_and_a_stream_continues(serving, folder, pairs):
    """Files replaced during a stream do not affect the stream."""
    released = asyncio.Event()
    context = client_context(pairs[0], folder.path)
    async with (
        ScriptedUpstream(always(paused_sse(released))) as upstream,
        serving(upstream.base_url) as app,
        chat_stub(app.addresses.grpc, credentials(pairs[0])) as chat,
    ):
        stream = chat.StreamComplete(request())
        await anext(aiter(stream))
        before = await handshake(app.addresses.http, context)
        folder.put(pairs[1])
        after = [await handshake(app.addresses.http, context)]
        after.append(await handshake(app.addresses.grpc, client_context(pairs[0], folder.path, alpn=["h2"])))
        released.set()
        events, failure = await collect(stream)
        async with chat_stub(app.addresses.grpc, credentials(pairs[1])) as other:
            later_events, _ = await collect(other.StreamComplete(request()))

    assert pairs[0].sha256 == before.sha256
    assert [pairs[1].sha256] * 2 == [found.sha256 for found in after]
    assert failure is None
    assert events[-1].HasField("completed")
    assert later_events[-1].HasField("completed")
    assert 1 == app.log.getvalue().count("TLS certificate replaced")


@pytest.mark.parametrize("listener", LISTENERS)
async def test_inconsistent_files_leave_the_previous_certificate_in_use(serving, folder, pairs, listener):
    """A certificate without its key, or half a file: handshakes succeed, with one log line for each state."""
    context = client_context(pairs[0], folder.path, alpn=[PROTOCOLS[listener]])
    async with serving() as app:
        address = getattr(app.addresses, listener)
        replace(folder.certificate, pairs[1].chain)
        between = [(await handshake(address, context)).sha256 for _ in range(2)]
        replace(folder.key, pairs[1].key[: len(pairs[1].key) // 2])
        between += [(await handshake(address, context)).sha256 for _ in range(2)]
        replace(folder.key, pairs[1].key)
        after = (await handshake(address, context)).sha256
    log = app.log.getvalue()

    assert [pairs[0].sha256] * 4 == between
    assert pairs[1].sha256 == after
    assert 2 == log.count("the previous ones stay in use")
    assert CANARY_COMMENT not in log
    assert "PRIVATE KEY" not in log


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_removed_client_authority_is_no_longer_trusted(
    serving, folder, pairs, authority, untrusted, listener
):
    """A session ticket from the time when the authority was trusted is rejected too."""
    theirs, others = Pair(authority, "a.example.com"), Pair(untrusted, "b.example.com")
    context = client_context(pairs[0], folder.path, theirs, alpn=[PROTOCOLS[listener]])
    async with serving(mutual=True) as app:
        address = getattr(app.addresses, listener)
        first = await handshake(address, context)
        resumed = await handshake(address, context, session=first.session)
        folder.put(pairs[0], client_ca=untrusted)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await handshake(address, context, session=resumed.session)
        seen = await handshake(
            address, client_context(pairs[0], folder.path, others, alpn=[PROTOCOLS[listener]])
        )

    assert resumed.resumed
    assert pairs[0].sha256 == seen.sha256


async def test_every_worker_uses_the_new_certificate(folder, pairs):
    """Each worker checks the files itself, and none is restarted."""
    context = client_context(pairs[0], folder.path, alpn=["h2"])
    async with running_fleet(*folder.flags()) as fleet:
        before = await fleet.wait_until_serving()
        first = {(await handshake(fleet.grpc, context)).sha256 for _ in range(8)}
        folder.put(pairs[1])
        seen = {(await handshake(fleet.grpc, context)).sha256 for _ in range(24)}
        after = await fleet.wait_until_serving()
        replaced = [line for line in fleet.command.lines if "TLS certificate replaced" in line]

    assert {pairs[0].sha256} == first
    assert {pairs[1].sha256} == seen
    assert before == after
    assert 1 <= len(replaced) <= 2


async def test_unusable_files_stop_the_start_with_one_line(folder, pairs):
    """Exit status 2 and the reason, without a part of a key. With several workers the supervisor prints it."""
    replace(folder.key, pairs[1].key)
    key = {"TOGETHER_API_KEY": CANARY_KEY}
    table = {
        f"{folder.key} is not the key of {folder.certificate}": (*folder.flags(), "--workers", "2"),
        "--tls-cert-file needs its private key": ("--tls-cert-file", str(folder.certificate)),
    }
    for message, arguments in table.items():
        async with running_command(*FREE_PORTS, *arguments, environment=key) as command:
            assert 2 == await command.wait_for_exit()
        assert 1 == len(command.lines), command.lines
        assert message in command.lines[0]
        assert CANARY_COMMENT not in command.lines[0]


async def test_the_banner_has_commands_that_work_over_tls(folder):
    """A client needs the authority, and a certificate if one is required."""
    arguments = ("--http-listen", "127.0.0.1:0", "--sandbox", *folder.flags(mutual=True))
    async with running_command(*FREE_PORTS, *arguments, "--log-format", "text") as command:
        banner = await command.wait_for_line("SERVING: ")
        await command.wait_for_line("curl --cacert")
        command.signal(signal.SIGTERM)
        await command.wait_for_exit()

    assert "HTTP on https://127.0.0.1:" in banner
    assert "  grpcurl -cacert ca.pem -cert caller.pem -key caller.key 127.0.0.1:" in command.error_text
    assert "  curl --cacert ca.pem --cert caller.pem --key caller.key https://" in command.error_text


PAGE = (Path(__file__).parents[2] / "docs" / "tls.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(not OPENSSL, reason="no openssl command")
async def test_the_commands_of_the_page_work(tmp_path):
    """Only the addresses and the programs are replaced."""
    start, make, call, curl = BLOCKS
    made = await asyncio.create_subprocess_exec(
        "bash", "-e", "-c", make, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    words = [str(tmp_path / word) if "." in word and ":" not in word else word for word in shlex.split(start)]
    assert 0 == await made.wait()
    async with running_command(
        "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off", "--sandbox", *words[3:]
    ) as command:
        address = (await command.wait_for_line("SERVING: ")).partition("gRPC on ")[2].partition(",")[0]
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without setup")
async def test_the_start_warns_once_about_callers_keys_in_plaintext():
    """With several workers too: only the started process prints it, before anything is served."""
    arguments = (
        "--grpc-listen",
        "127.0.0.2:0",
        "--admin-listen",
        "off",
        "--upstream-credentials",
        "caller",
        "--workers",
        "2",
    )
    async with running_command(
        *arguments, environment={"TOGETHER_BASE_URL": "http://127.0.0.1:1"}
    ) as command:
        await command.wait_for_line("SERVING: ")
        command.signal(signal.SIGTERM)
        await command.wait_for_exit()

    assert command.lines[0].startswith(
        "togetherchat-server: warning: --grpc-listen 127.0.0.2:0 receives callers' keys in plaintext: set --tls-cert-file"
    )
    assert 1 == command.error_text.count("warning:")
