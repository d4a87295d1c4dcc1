"""The health service on real sockets: its statuses, when they change, and that no peer can block it."""

import asyncio
import time

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support import openai
from support.app import failing, request, running_app
from support.http2_peer import (
    DATA,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    http2_peer,
    status_in,
)
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Stall, json_response
from support.waiting import eventually
from togetherchat_client import connect_async
from togetherchat_server.frontends.grpc import health as health_module

SERVICE = "togetherchat.v1.ChatService"
USAGE_SERVICE = "togetherchat.v1.UsageService"
WATCH = "/grpc.health.v1.Health/Watch"
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVING = health_pb2.HealthCheckResponse.SERVING


def of(service):
    return health_pb2.HealthCheckRequest(service=service)


def health(app):
    return health_pb2_grpc.HealthStub(app.channel)


def opens(frame):
    return frame.kind == HEADERS and not frame.flags & END_STREAM


@pytest.mark.parametrize("service", ["", SERVICE, USAGE_SERVICE])
async def test_check_reports_the_process_and_the_service(service):
    """A serving process is SERVING under both names."""
    async with running_app() as app:
        assert SERVING == (await health(app).Check(of(service))).status


async def test_check_of_an_unknown_service_is_not_found():
    """grpc.health.v1 requires NOT_FOUND."""
    async with running_app() as app:
        failure = await failing(health(app).Check(of("nobody")))

    assert grpc.StatusCode.NOT_FOUND is failure.code


async def test_list_has_every_name_with_its_status():
    """The statuses are those that Check returns for each name."""
    async with running_app() as app:
        response = await health(app).List(health_pb2.HealthListRequest())

    assert {"": SERVING, SERVICE: SERVING, USAGE_SERVICE: SERVING} == {
        name: entry.status for name, entry in response.statuses.items()
    }


async def test_watch_of_an_unknown_service_waits_for_it():
    """grpc.health.v1 requires the message SERVICE_UNKNOWN, and that the watch continues."""
    async with running_app() as app:
        watch = health(app).Watch(of("nobody"))

        assert SERVICE_UNKNOWN == (await watch.read()).status
        assert not watch.done()
        watch.cancel()


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_watcher_sees_the_stop_and_its_watch_ends(service):
    """The watch yields SERVING, NOT_SERVING when connections get GOAWAY, and the end of the stream."""
    async with running_app() as app:
        watch = health(app).Watch(of(service))
        first = await watch.read()
        stopping = asyncio.create_task(app.app.stop())
        second = await watch.read()
        ended = await watch.read()
        await stopping

    assert (SERVING, NOT_SERVING, aio.EOF) == (first.status, second.status, ended)
    assert grpc.StatusCode.OK is await watch.code()


async def test_during_the_drain_delay_check_reports_the_stop_and_watch_does_not():
    """A client fails its calls when a watch yields NOT_SERVING, so the end of its connection tells it."""
    async with running_app() as app:
        stop_now = asyncio.Event()
        watch = health(app).Watch(of(SERVICE))
        first = await watch.read()
        stopping = asyncio.create_task(app.app.stop(drain_delay_s=600, stop_now=stop_now))
        await eventually(lambda: not app.grpc_server.health.serving)
        checked = await health(app).Check(of(SERVICE))
        newcomer = await health(app).Watch(of(SERVICE)).read()
        second = asyncio.create_task(watch.read())
        response = await app.chat.Complete(request())

        assert (SERVING, NOT_SERVING, SERVING) == (first.status, checked.status, newcomer.status)
        assert not second.done()
        assert response.choices
        stop_now.set()
        assert NOT_SERVING == (await second).status
        await stopping


async def test_a_watcher_that_reads_nothing_blocks_no_other():
    """While a peer's window is zero, others get their statuses and changes."""
    async with running_app() as app, http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer:
        peer.call(1, WATCH, b"")
        await peer.seen(opens)
        other = health(app).Watch(of(""))

        assert SERVING == (await other.read()).status
        app.grpc_server.health.set_serving(False, reason="a test")
        assert NOT_SERVING == (await other.read()).status
        assert NOT_SERVING == (await health(app).Check(of(""))).status
        assert not [frame for frame in peer.frames if frame.kind == DATA]


async def test_a_watcher_that_reads_nothing_does_not_delay_the_stop():
    """The drain waits for calls; a blocked watch is ended when there is none."""
    async with (
        running_app(drain_timeout_s=30) as app,
        http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        peer.call(1, WATCH, b"")
        await peer.seen(opens)
        begun_s = time.monotonic()
        await app.app.stop()

        assert 5 > time.monotonic() - begun_s


async def test_a_blocked_watcher_that_disconnects_is_removed(caplog):
    """Its watch is released, and gRPC logs nothing."""
    async with running_app() as app:
        async with http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer:
            peer.call(1, WATCH, b"")
            await peer.seen(opens)
        other = health(app).Watch(of(""))
        await other.read()
        await eventually(lambda: app.grpc_server.health._watches.total() == 1)
        other.cancel()

    assert [] == [record for record in caplog.records if record.name.startswith("grpc")]


@pytest.mark.parametrize("bound", ["WATCHES_PER_ADDRESS_MAX", "WATCHES_MAX"])
async def test_watches_are_bounded(monkeypatch, bound):
    """One watch too many gets UNIMPLEMENTED; a watch that ends makes room."""
    monkeypatch.setattr(health_module, bound, 3)
    async with running_app() as app:
        watches = [health(app).Watch(of("")) for _ in range(3)]
        for watch in watches:
            await watch.read()
        rejected = await failing(health(app).Watch(of("")).read())
        watches[0].cancel()
        await eventually(lambda: app.grpc_server.health._watches.total() < 3)
        late = health(app).Watch(of(""))

        assert grpc.StatusCode.UNIMPLEMENTED is rejected.code
        assert SERVING == (await late.read()).status


async def test_a_client_without_a_watch_makes_calls():
    """Clients take UNIMPLEMENTED for a healthy service: the bound stops no call of theirs."""
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion("Hi")))) as upstream,
        running_app(upstream.base_url) as app,
        connect_async(app.addresses.grpc, health_checking=True) as client,
    ):
        app.grpc_server.health._watches["127.0.0.1"] = health_module.WATCHES_PER_ADDRESS_MAX
        response = await client.complete("m", "Hi")

    assert "Hi" == response.choices[0].message.content[0].text


@pytest.mark.parametrize("method", ["Check", "Watch", "List"])
async def test_a_call_without_a_message_ends(method):
    """Health is served to strangers: one that sends nothing keeps nothing."""
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        peer.open(1, f"/grpc.health.v1.Health/{method}")
        trailers = await peer.seen(lambda frame: frame.kind == HEADERS and bool(frame.flags & END_STREAM))

        assert (0 if method == "List" else grpc.StatusCode.UNAVAILABLE.value[0]) == status_in(trailers)


async def test_calls_without_a_message_do_not_delay_others():
    """Honest calls take turns with those of an address that holds every permit."""
    async with running_app() as app, http2_peer(app.addresses.grpc) as peer:
        for stream in range(1, 201, 2):
            peer.open(stream, "/grpc.health.v1.Health/Check")
        await peer.flush()
        begun_s = time.monotonic()
        for _ in range(3):
            assert SERVING == (await health(app).Check(of(""))).status

        assert 10 > time.monotonic() - begun_s


async def test_a_large_message_is_not_parsed():
    """A request that is longer than any name is rejected as invalid."""
    async with running_app() as app:
        failure = await failing(app.channel.unary_unary("/grpc.health.v1.Health/Check")(bytes(5000)))

    assert grpc.StatusCode.INVALID_ARGUMENT is failure.code


async def test_health_is_reported_while_all_permits_are_in_use():
    """Probes need no permit: a full service is healthy."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, max_concurrent_calls=2) as app,
    ):
        running = [app.chat.Complete(request()) for _ in range(2)]
        await upstream.received(2)
        rejected = await failing(app.chat.Complete(request()))

        assert "OVERLOADED" == rejected.info.reason
        assert SERVING == (await health(app).Check(of(""))).status
        assert SERVING == (await health(app).Watch(of("")).read()).status
        for call in running:
            call.cancel()


async def test_the_probe_listener_only_serves_health():
    """The listener serves neither calls nor reflection."""
    async with (
        running_app(health_listen="127.0.0.1:0") as app,
        aio.insecure_channel(app.addresses.health) as channel,
    ):
        check = await health_pb2_grpc.HealthStub(channel).Check(of(SERVICE))
        rejected = [
            await failing(channel.unary_unary(f"/{SERVICE}/{name}")(b""))
            for name in ("Complete", "StreamComplete", "ListModels", "GetModel")
        ]
        reflection = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        no_reflection = await failing(reflection([b""]).read())

    assert SERVING == check.status
    assert {grpc.StatusCode.UNIMPLEMENTED} == {failure.code for failure in (*rejected, no_reflection)}


async def test_the_probe_listener_reports_the_stop():
    """A connected probe gets NOT_SERVING while calls in flight end."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, health_listen="127.0.0.1:0", drain_timeout_s=2) as app,
        aio.insecure_channel(app.addresses.health) as channel,
    ):
        running = app.chat.Complete(request())
        await upstream.received()
        watch = health_pb2_grpc.HealthStub(channel).Watch(of(""))
        first = await watch.read()
        stopping = asyncio.create_task(app.app.stop())
        second = await watch.read()

        assert (SERVING, NOT_SERVING) == (first.status, second.status)
        assert not stopping.done()
        running.cancel()
        await stopping


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_an_unparsable_request_is_rejected(method, caplog):
    """The status is INVALID_ARGUMENT; no exception is sent or logged."""
    async with running_app() as app:
        failure = await failing(app.channel.unary_unary(f"/grpc.health.v1.Health/{method}")(b"\xff\xff"))

        assert SERVING == (await health(app).Check(of(""))).status
    assert (grpc.StatusCode.INVALID_ARGUMENT, "the request is not a valid HealthCheckRequest") == (
        failure.code,
        failure.message,
    )
    assert [] == [record for record in caplog.records if record.name.startswith("grpc")]
