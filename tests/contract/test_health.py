"""The health service on real sockets: what it says, when it says it, and that no peer can hold it up."""

import asyncio
import time

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.app import failing, request, running_app
from support.http2_peer import (
    DATA,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    http2_peer,
)
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Stall
from support.waiting import eventually
from togetherchat_server.frontends.grpc import server as front

SERVICE = "togetherchat.v1.ChatService"
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


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_check_answers_for_the_whole_and_for_the_service(service):
    """A serving process says so under both names."""
    async with running_app() as app:
        assert SERVING == (await health(app).Check(of(service))).status


async def test_check_of_an_unknown_service_is_not_found():
    """The words of grpc.health.v1: NOT_FOUND, no status."""
    async with running_app() as app:
        failure = await failing(health(app).Check(of("nobody")))

    assert grpc.StatusCode.NOT_FOUND is failure.code


async def test_list_names_everything_with_its_status():
    """One answer holds what Check would say for each name."""
    async with running_app() as app:
        answer = await health(app).List(health_pb2.HealthListRequest())

    assert {"": SERVING, SERVICE: SERVING} == {name: one.status for name, one in answer.statuses.items()}


async def test_watch_of_an_unknown_service_waits_for_it():
    """The words of grpc.health.v1: SERVICE_UNKNOWN as a message, and the watch goes on."""
    async with running_app() as app:
        watch = health(app).Watch(of("nobody"))

        assert SERVICE_UNKNOWN == (await watch.read()).status
        assert not watch.done()
        watch.cancel()


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_watcher_sees_the_stop_and_its_watch_ends(service):
    """SERVING, then NOT_SERVING once connections are told to end, then the end of the stream."""
    async with running_app() as app:
        watch = health(app).Watch(of(service))
        first = await watch.read()
        stopping = asyncio.create_task(app.app.stop())
        second = await watch.read()
        ended = await watch.read()
        await stopping

    assert (SERVING, NOT_SERVING, aio.EOF) == (first.status, second.status, ended)
    assert grpc.StatusCode.OK is await watch.code()


async def test_during_the_propagation_who_asks_is_told_and_who_watches_is_not():
    """A client fails its calls once it hears NOT_SERVING: it is to hear of the stop by its connection's end."""
    async with running_app() as app:
        stop_now = asyncio.Event()
        watch = health(app).Watch(of(SERVICE))
        first = await watch.read()
        stopping = asyncio.create_task(app.app.stop(drain_delay_s=600, stop_now=stop_now))
        await eventually(lambda: not app.grpc_server.health.serving)
        asked = await health(app).Check(of(SERVICE))
        newcomer = await health(app).Watch(of(SERVICE)).read()
        second = asyncio.create_task(watch.read())
        answer = await app.chat.Complete(request())

        assert (SERVING, NOT_SERVING, SERVING) == (first.status, asked.status, newcomer.status)
        assert not second.done()
        assert answer.choices
        stop_now.set()
        assert NOT_SERVING == (await second).status
        await stopping


async def test_a_watcher_that_takes_no_message_freezes_nobody():
    """With a peer's window at zero others are answered, and hear of changes."""
    async with running_app() as app, http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer:
        peer.call(1, WATCH, b"")
        await peer.seen(opens)
        other = health(app).Watch(of(""))

        assert SERVING == (await other.read()).status
        app.grpc_server.health.set_serving(False, reason="a test")
        assert NOT_SERVING == (await other.read()).status
        assert NOT_SERVING == (await health(app).Check(of(""))).status
        assert not [frame for frame in peer.frames if frame.kind == DATA]


async def test_a_watcher_that_takes_no_message_does_not_hold_up_the_stop():
    """The drain waits for calls; a stuck watch is cut off once there is none."""
    async with (
        running_app(drain_timeout_s=30) as app,
        http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        peer.call(1, WATCH, b"")
        await peer.seen(opens)
        begun_s = time.monotonic()
        await app.app.stop()

        assert 5 > time.monotonic() - begun_s


async def test_a_watcher_that_leaves_while_stuck_is_forgotten(caplog):
    """Nothing is kept of it, and gRPC has nothing to say about it."""
    async with running_app() as app:
        async with http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer:
            peer.call(1, WATCH, b"")
            await peer.seen(opens)
        other = health(app).Watch(of(""))
        await other.read()
        await eventually(lambda: app.grpc_server.health._watchers == 1)
        other.cancel()

    assert [] == [record for record in caplog.records if record.name.startswith("grpc")]


async def test_watches_are_bounded(monkeypatch):
    """One watch too many is RESOURCE_EXHAUSTED; one that ends makes room."""
    monkeypatch.setattr(front, "WATCHERS_MAX", 3)
    async with running_app() as app:
        watches = [health(app).Watch(of("")) for _ in range(3)]
        for watch in watches:
            await watch.read()
        refused = await failing(health(app).Watch(of("")).read())
        watches[0].cancel()
        await eventually(lambda: app.grpc_server.health._watchers < 3)
        late = health(app).Watch(of(""))

        assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.code
        assert SERVING == (await late.read()).status


async def test_health_answers_while_all_calls_are_taken():
    """Probes take no place of a call: a full service is a healthy one."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, max_concurrent_calls=2) as app,
    ):
        running = [app.chat.Complete(request()) for _ in range(2)]
        await upstream.asked(2)
        refused = await failing(app.chat.Complete(request()))

        assert "OVERLOADED" == refused.info.reason
        assert SERVING == (await health(app).Check(of(""))).status
        assert SERVING == (await health(app).Watch(of("")).read()).status
        for call in running:
            call.cancel()


async def test_the_listener_for_probes_serves_health_and_nothing_else():
    """A probe's port gives away neither answers nor descriptions."""
    async with (
        running_app(health_listen="127.0.0.1:0") as app,
        aio.insecure_channel(app.addresses.health) as channel,
    ):
        check = await health_pb2_grpc.HealthStub(channel).Check(of(SERVICE))
        refused = [
            await failing(channel.unary_unary(f"/{SERVICE}/{name}")(b""))
            for name in ("Complete", "StreamComplete", "ListModels")
        ]
        reflection = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        undescribed = await failing(reflection([b""]).read())

    assert SERVING == check.status
    assert {grpc.StatusCode.UNIMPLEMENTED} == {failure.code for failure in (*refused, undescribed)}


async def test_the_listener_for_probes_tells_of_the_stop():
    """A probe that is connected sees NOT_SERVING while running calls end."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, health_listen="127.0.0.1:0", drain_timeout_s=2) as app,
        aio.insecure_channel(app.addresses.health) as channel,
    ):
        running = app.chat.Complete(request())
        await upstream.asked()
        watch = health_pb2_grpc.HealthStub(channel).Watch(of(""))
        first = await watch.read()
        stopping = asyncio.create_task(app.app.stop())
        second = await watch.read()

        assert (SERVING, NOT_SERVING) == (first.status, second.status)
        assert not stopping.done()
        running.cancel()
        await stopping


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_a_request_that_is_no_message_is_refused(method, caplog):
    """Bytes that cannot be parsed are INVALID_ARGUMENT: no exception is shown, none is logged."""
    async with running_app() as app:
        failure = await failing(app.channel.unary_unary(f"/grpc.health.v1.Health/{method}")(b"\xff\xff"))

        assert SERVING == (await health(app).Check(of(""))).status
    assert (grpc.StatusCode.INVALID_ARGUMENT, "no such message") == (failure.code, failure.message)
    assert [] == [record for record in caplog.records if record.name.startswith("grpc")]
