"""Tests of the channel: every entry of the service config and every option takes effect.

gRPC silently ignores options with an unknown name, so each test observes the effect of an option.
"""

import asyncio
import json
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from support.scripted_service import (
    MODEL,
    Failure,
    ScriptedService,
    delta,
    response_of,
    serving,
    started,
    stream_of,
)
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import (
    NotFoundError,
    ResourceExhaustedError,
    ServingStatus,
    Tls,
    TogetherChatError,
    UnavailableError,
    connect,
    connect_async,
    text_of,
)
from togetherchat_client.channel import OPTIONS, service_config
from togetherchat_client.health import CHAT_SERVICE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def unavailable(pushback_ms: int | None) -> Failure:
    return Failure(
        code=grpc.StatusCode.UNAVAILABLE, reason="OVERLOADED", pushback_ms=pushback_ms, retryable=True
    )


async def health_of(status) -> health_aio.HealthServicer:
    health = health_aio.HealthServicer()
    await health.set(CHAT_SERVICE, status)
    return health


async def test_the_service_config_is_found_beside_the_stubs():
    """The client reads the contract's file, not a copy."""
    config = json.loads(service_config())
    assert (2, 4) == tuple(entry["retryPolicy"]["maxAttempts"] for entry in config["methodConfig"])


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_the_client_waits_for_the_pushback(code):
    """The retry is sent after the delay in `grpc-retry-pushback-ms`."""
    failure = Failure(code=code, pushback_ms=300)
    scripted = ScriptedService(Complete=[[failure], [response_of("Hello.")]])
    loop = asyncio.get_running_loop()
    async with serving(scripted) as target, connect_async(target) as client:
        begun_s = loop.time()
        assert "Hello." == text_of(await client.complete(MODEL, "Hi"))
        assert loop.time() - begun_s >= 0.3
    assert [None, "1"] == [seen.metadata.get("grpc-previous-rpc-attempts") for seen in scripted.seen]


async def test_a_pushback_of_minus_one_stops_retries():
    """The service forbids a retry that cannot succeed."""
    scripted = ScriptedService(Complete=[[unavailable(-1)], [response_of("Hello.")]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(UnavailableError):
            await client.complete(MODEL, "Hi")
    assert 1 == len(scripted.seen)


async def test_a_completion_gets_two_attempts():
    """maxAttempts is 2 for Complete."""
    scripted = ScriptedService(Complete=[[unavailable(1)]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(UnavailableError):
            await client.complete(MODEL, "Hi")
    assert 2 == len(scripted.seen)


async def test_a_list_gets_four_attempts():
    """maxAttempts is 4 for ListModels, which is not billed."""
    scripted = ScriptedService(ListModels=[[unavailable(1)]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(UnavailableError):
            _ = [model async for model in client.models()]
    assert 4 == len(scripted.seen)


async def test_failed_calls_use_up_the_retries():
    """retryThrottling: after two hundred failures in a row calls are not retried."""
    scripted = ScriptedService(Complete=[[unavailable(1)]])
    async with serving(scripted) as target, connect_async(target) as client:
        for _ in range(105):
            with pytest.raises(UnavailableError):
                await client.complete(MODEL, "Hi")
    assert 2 * 100 + 5 == len(scripted.seen)


async def test_other_codes_are_not_retried():
    """INTERNAL is not retried, even with a pushback, because it may be billed twice."""
    failure = Failure(code=grpc.StatusCode.INTERNAL, pushback_ms=1)
    scripted = ScriptedService(Complete=[[failure]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(TogetherChatError):
            await client.complete(MODEL, "Hi")
    assert 1 == len(scripted.seen)


async def test_a_stream_is_retried_before_its_first_message():
    """No event has arrived, so no text is repeated."""
    scripted = ScriptedService(StreamComplete=[[unavailable(1)], stream_of("Hello.")])
    async with (
        serving(scripted) as target,
        connect_async(target) as client,
        client.stream(MODEL, "Hi") as stream,
    ):
        assert "Hello." == text_of(await stream.finish())
    assert 2 == len(scripted.seen)


async def test_a_stream_is_not_retried_after_its_first_message():
    """The error has the partial response."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), unavailable(1)], stream_of("no")])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(UnavailableError) as caught:
            async with client.stream(MODEL, "Hi") as stream:
                await stream.finish()
    assert (1, "Hel") == (len(scripted.seen), text_of(caught.value.partial))


async def test_retries_can_be_disabled():
    """With `retries=False` a call is sent once."""
    scripted = ScriptedService(Complete=[[unavailable(1)], [response_of("Hello.")]])
    async with serving(scripted) as target, connect_async(target, retries=False) as client:
        with pytest.raises(UnavailableError):
            await client.complete(MODEL, "Hi")
    assert 1 == len(scripted.seen)


async def test_a_long_conversation_is_retried_too():
    """per_rpc_retry_buffer_size: by default gRPC retries nothing above 256 KiB."""
    scripted = ScriptedService(Complete=[[unavailable(1)], [response_of("Hello.")]])
    async with serving(scripted) as target, connect_async(target) as client:
        assert "Hello." == text_of(await client.complete(MODEL, "x" * 1024 * 1024))
    assert 2 == len(scripted.seen)


async def test_calls_are_distributed_over_all_addresses():
    """round_robin: the calls alternate between the servers."""
    first, second = (ScriptedService(Complete=[[response_of(name)]]) for name in ("1", "2"))
    async with serving(first) as one, serving(second) as two, connect_async(f"ipv4:{one},{two}") as client:
        # Until both are connected, all calls go to the connected one.
        async with asyncio.timeout(20):
            while not (first.seen and second.seen):
                await client.complete(MODEL, "Hi")
        first.seen.clear()
        second.seen.clear()
        for _ in range(6):
            await client.complete(MODEL, "Hi")
    assert (3, 3) == (len(first.seen), len(second.seen))


async def test_a_server_that_is_not_serving_gets_no_calls():
    """`health_checking=True`: calls are sent to the other server."""
    draining, serving_on = (ScriptedService(Complete=[[response_of(name)]]) for name in ("1", "2"))
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(serving(draining, health=await health_of(NOT_SERVING)))
        two = await stack.enter_async_context(serving(serving_on, health=await health_of(SERVING)))
        client = await stack.enter_async_context(connect_async(f"ipv4:{one},{two}", health_checking=True))
        for _ in range(4):
            await client.complete(MODEL, "Hi")
    assert (0, 4) == (len(draining.seen), len(serving_on.seen))


async def test_health_reaches_a_server_that_is_not_serving():
    """`health()` works with a server that gets no other calls."""
    scripted = ScriptedService()
    async with (
        serving(scripted, health=await health_of(NOT_SERVING)) as target,
        connect_async(target, health_checking=True) as client,
    ):
        assert ServingStatus.NOT_SERVING is await client.health(CHAT_SERVICE)
        with pytest.raises(UnavailableError):
            await client.complete(MODEL, "Hi")
        assert [] == scripted.seen


async def test_health_works_with_a_real_health_service():
    """For the server as a whole, for the service, and for an unknown service."""
    health = await health_of(SERVING)
    await health.set("", SERVING)

    def ask(target):
        with connect(target) as client:
            return client.health()

    async with serving(ScriptedService(), health=health) as target, connect_async(target) as client:
        statuses = [
            await client.health(),
            await client.health(CHAT_SERVICE),
            await asyncio.to_thread(ask, target),
        ]
        with pytest.raises(NotFoundError):
            await client.health("nobody.v1.Nothing")
    assert statuses == [ServingStatus.SERVING] * 3


async def test_a_large_response_is_accepted():
    """gRPC's default limit is 4 MiB, which a response with log probabilities can exceed."""
    text = "x" * (5 * 1024 * 1024)
    scripted = ScriptedService(Complete=[[response_of(text)]])
    async with serving(scripted) as target, connect_async(target) as client:
        assert text == text_of(await client.complete(MODEL, "Hi"))


async def test_a_response_above_the_limit_is_not_requested_again():
    """The client's own RESOURCE_EXHAUSTED is not retried, because the call was billed."""
    scripted = ScriptedService(Complete=[[response_of("x" * 2048)]])
    options = [("grpc.max_receive_message_length", 1024)]
    async with serving(scripted) as target, connect_async(target, channel_options=options) as client:
        with pytest.raises(ResourceExhaustedError) as caught:
            await client.complete(MODEL, "Hi")
    assert (1, "") == (len(scripted.seen), caught.value.reason)


async def test_a_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch):
    """`http_proxy` does not apply to loopback."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with (
        serving(ScriptedService(Complete=[[response_of("Hello.")]])) as target,
        connect_async(target) as client,
    ):
        assert "Hello." == text_of(await client.complete(MODEL, "Hi"))


async def test_an_unreachable_server_fails_at_once():
    """The client does not wait for a server to start."""
    async with connect_async("127.0.0.1:1", retries=False) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.complete(MODEL, "Hi", request_id="mine-1")
    assert ("NOT_CONNECTED", "mine-1", True) == (
        caught.value.reason,
        caught.value.request_id,
        caught.value.retryable,
    )


@asynccontextmanager
async def frozen_relay(target: str):
    """Relay one connection until `freeze` is set, then keep it open and send nothing more."""
    freeze = asyncio.Event()
    host, _, port = target.partition(":")
    up_reader, up_writer = await asyncio.open_connection(host, int(port))
    pumps, writers = [], [up_writer]

    async def pump(reader, writer):
        while (data := await reader.read(65536)) and not freeze.is_set():
            writer.write(data)
        await asyncio.Event().wait()

    def accept(reader, writer):
        # One connection only: a reconnection after the freeze must fail.
        server.close()
        writers.append(writer)
        pumps.append(asyncio.ensure_future(pump(reader, up_writer)))
        pumps.append(asyncio.ensure_future(pump(up_reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", freeze
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        for writer in writers:
            with suppress(OSError):
                await writer.wait_closed()


@pytest.mark.slow
async def test_keepalive_ends_a_stream_over_a_dead_connection():
    """The library's keepalive options, with shorter times, end the call."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), asyncio.Event()]])
    shortened = [
        (name, 500)
        for name in ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
        if name in dict(OPTIONS)
    ]
    async with (
        serving(scripted) as target,
        frozen_relay(target) as (relayed, freeze),
        connect_async(relayed, channel_options=shortened, retries=False) as client,
        client.stream(MODEL, "Hi", timeout_s=30) as stream,
    ):
        await anext(stream.text())
        freeze.set()
        with pytest.raises(UnavailableError) as caught:
            await stream.finish()
    assert "Hel" == text_of(caught.value.partial)


@pytest.fixture
def certificate(tmp_path):
    """A certificate for localhost and its key, created by openssl."""
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    try:
        subprocess.run(
            [
                "openssl",
                *command.split(),
                "-addext",
                "subjectAltName=DNS:localhost",
                "-keyout",
                key,
                "-out",
                chain,
            ],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return key.read_bytes(), chain.read_bytes()


async def test_tls_uses_the_given_roots_and_server_name(certificate):
    """A call over TLS succeeds with the roots and the name of the certificate."""
    key, chain = certificate
    credentials = grpc.ssl_server_credentials([(key, chain)])
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    tls = Tls(root_certificates=chain, server_name="localhost")
    async with serving(scripted, credentials=credentials) as target, connect_async(target, tls=tls) as client:
        assert "Hello." == text_of(await client.complete(MODEL, "Hi"))


async def test_an_untrusted_certificate_is_rejected(certificate):
    """`tls=True` trusts gRPC's own roots only."""
    key, chain = certificate
    credentials = grpc.ssl_server_credentials([(key, chain)])
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    async with (
        serving(scripted, credentials=credentials) as target,
        connect_async(target, tls=True) as client,
    ):
        with pytest.raises(UnavailableError):
            await client.complete(MODEL, "Hi")
    assert [] == scripted.seen


async def test_the_sync_client_has_the_same_channel_options():
    """The sync client waits for a pushback and retries, too."""
    scripted = ScriptedService(ListModels=[[unavailable(1)], [service.ListModelsResponse()]])

    def ask(target):
        with connect(target) as client:
            return list(client.models())

    async with serving(scripted) as target:
        assert [] == await asyncio.to_thread(ask, target)
    assert 2 == len(scripted.seen)
