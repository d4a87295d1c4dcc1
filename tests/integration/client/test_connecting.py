"""Tests of how the client connects: health checks, waiting for a server, reconnection, look-ups."""

import asyncio
import struct
from contextlib import asynccontextmanager
from itertools import pairwise

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from support.certificates import make_certificate
from support.ports import reserved_address
from support.scripted_service import MODEL, ScriptedService, response_of, serving
from support.waiting import eventually
from togetherchat_client import Tls, UnavailableError, connect, connect_async, text_of
from togetherchat_client.channel import DNS_INTERVAL_S, MAX_RECONNECT_BACKOFF_S
from togetherchat_client.health import CHAT_SERVICE

SHORT_S = 1.0
"""A deadline that a call must reach."""


class Health(health_aio.HealthServicer):
    """A health service that records its watches, and answers them unless `silent`."""

    def __init__(self, *, silent=False):
        super().__init__()
        self._silent = silent
        self.watches = []

    async def Watch(self, request, context):  # noqa: N802  the RPC's name
        self.watches.append(dict(context.invocation_metadata()))
        if self._silent:
            await asyncio.Event().wait()
        await self.set(CHAT_SERVICE, health_pb2.HealthCheckResponse.SERVING)
        await super().Watch(request, context)


def hello():
    return ScriptedService(Complete=[[response_of("Hello.")]])


async def test_a_proxy_that_never_answers_watch_delays_no_call():
    """By default the client opens no watch."""
    health = Health(silent=True)
    async with serving(hello(), health=health) as target, connect_async(target, timeout_s=20) as client:
        assert "Hello." == text_of(await client.complete(MODEL, "Hi"))
    assert [] == health.watches


async def test_with_health_checking_a_silent_proxy_delays_no_call_for_long():
    """The service config's deadline is ten minutes. The wait of a second counts against the deadline."""
    health = Health(silent=True)
    scripted = hello()
    async with (
        serving(scripted, health=health) as target,
        connect_async(target, health_checking=True) as client,
    ):
        both = await asyncio.gather(client.complete(MODEL, "Hi"), client.complete(MODEL, "Hi"))
        both.append(await client.complete(MODEL, "Hi"))
    assert ["Hello."] * 3 == [text_of(response) for response in both]
    assert 1 == len(health.watches)
    assert 599.5 > scripted.seen[0].seconds_left


async def test_with_health_checking_a_silent_proxy_delays_no_blocking_call_for_long():
    """The same for the blocking client."""
    health = Health(silent=True)

    def call(target):
        with connect(target, health_checking=True) as client:
            return [text_of(client.complete(MODEL, "Hi")) for _ in range(2)]

    async with serving(hello(), health=health) as target:
        assert ["Hello."] * 2 == await asyncio.to_thread(call, target)
    assert 1 == len(health.watches)


async def test_with_health_checking_the_deadline_of_a_call_is_kept():
    """A call with a deadline shorter than the wait for the watch ends with that deadline."""
    async with (
        serving(
            ScriptedService(Complete=[[asyncio.Event(), response_of("")]]), health=Health(silent=True)
        ) as target,
        connect_async(target, timeout_s=SHORT_S, health_checking=True) as client,
    ):
        with pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
            await client.complete(MODEL, "Hi")


@pytest.mark.parametrize("keys", [{"key": "tc_1"}, {"upstream_key": "up_1"}])
def test_health_checking_with_a_key_needs_tls(keys):
    """A gateway that wants a key on every call would reject the watch, and no call would succeed."""
    with pytest.raises(ValueError, match="sends no key with its health watch over plaintext"):
        connect("localhost:1", health_checking=True, **keys)
    connect("localhost:1", **keys).close()
    connect("localhost:1", health_checking=True).close()


@pytest.mark.parametrize("health_checking", [True, False])
async def test_over_tls_the_watch_carries_the_keys(tmp_path, health_checking):
    """A gateway that wants a key on every call accepts the watch; the call has each key once."""
    made = make_certificate(tmp_path)
    pem = made.certificate_file.read_bytes()
    credentials = grpc.ssl_server_credentials([(made.key_file.read_bytes(), pem)])
    scripted, health = hello(), Health()
    async with (
        serving(scripted, health=health, credentials=credentials) as address,
        connect_async(
            address.replace("127.0.0.1", "localhost"),
            key="tc_1",
            upstream_key="up_1",
            tls=Tls(root_certificates=pem),
            health_checking=health_checking,
            timeout_s=20,
        ) as client,
    ):
        await client.complete(MODEL, "Hi")
    keys = {"authorization": "Bearer tc_1", "x-together-api-key": "up_1"}
    watched = [{name: watch.get(name) for name in keys} for watch in health.watches]
    assert ([keys] if health_checking else []) == watched
    assert keys.items() <= scripted.seen[0].metadata.items()


@pytest.mark.parametrize("per_call", [True, False])
async def test_a_call_can_wait_for_a_server_that_is_not_up_yet(per_call):
    """`wait_for_ready` of the client and of the call: the call completes after the server has started."""
    of_client, of_call = (False, True) if per_call else (True, None)
    with reserved_address() as address:
        async with connect_async(address, wait_for_ready=of_client, timeout_s=20) as client:
            call = asyncio.create_task(client.complete(MODEL, "Hi", wait_for_ready=of_call))
            with pytest.raises(UnavailableError):
                await client.complete(MODEL, "Hi", wait_for_ready=False)
            async with serving(hello(), address=address):
                assert "Hello." == text_of(await call)


def test_the_blocking_client_can_wait_too():
    """`wait_for_ready` ends at the deadline, instead of at once."""
    with (
        reserved_address() as address,
        connect(address, wait_for_ready=True, timeout_s=0.3) as client,
        pytest.raises(Exception, match="DEADLINE_EXCEEDED"),
    ):
        client.complete(MODEL, "Hi")


@asynccontextmanager
async def counting_refusals(address):
    """A listener that accepts and closes each connection. Yields the times of the connections."""
    times = []

    def refuse(_reader, writer):
        times.append(asyncio.get_running_loop().time())
        writer.transport.abort()

    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(refuse, host, int(port))
    try:
        yield times
    finally:
        server.close()


async def test_the_reconnect_backoff_is_bounded():
    """gRPC's own back-off grows to 120 s: the pauses here stay at the given bound."""
    with reserved_address() as address:
        async with (
            counting_refusals(address) as times,
            connect_async(address, wait_for_ready=True, timeout_s=60, max_reconnect_backoff_s=0.2) as client,
        ):
            call = asyncio.create_task(client.complete(MODEL, "Hi"))
            await eventually(lambda: len(times) >= 8)
            call.cancel()
    pauses = [later - earlier for earlier, later in pairwise(times[2:])]
    assert max(pauses) < 1.0 < MAX_RECONNECT_BACKOFF_S


class NameServer(asyncio.DatagramProtocol):
    """A DNS server that answers each A query with `address`, and counts the queries."""

    def __init__(self, address):
        self.address = address
        self.queries = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        question_end = data.index(b"\0", 12) + 5
        question = data[12:question_end]
        is_a = question[-4:-2] == b"\0\1"
        header = data[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_a), 0, 0)
        answer = b""
        if is_a:
            self.queries += 1
            answer = struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + bytes(map(int, self.address.split(".")))
        self.transport.sendto(header + question + answer, addr)


@pytest.mark.slow
async def test_a_new_address_is_looked_up_soon():
    """The only pod has moved: the client looks its name up again after seconds, not after gRPC's 30."""
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(
        lambda: NameServer("127.0.0.1"), local_addr=("127.0.0.1", 0)
    )
    dns = transport.get_extra_info("sockname")[1]
    try:
        async with serving(hello()) as old:
            port = old.rpartition(":")[2]
            target = f"dns://127.0.0.1:{dns}/chat.test:{port}"
            client = connect_async(target, tls=False, wait_for_ready=True, timeout_s=25, retries=False)
            await client.complete(MODEL, "Hi")
        names.address = "127.0.0.2"
        begun = loop.time()
        async with serving(hello(), address=f"127.0.0.2:{port}"):
            await client.complete(MODEL, "Hi")
        took = loop.time() - begun
        await client.close()
    finally:
        transport.close()
    assert names.queries >= 2
    assert took < DNS_INTERVAL_S + 2 * MAX_RECONNECT_BACKOFF_S
