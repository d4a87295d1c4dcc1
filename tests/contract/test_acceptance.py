"""How fast the gRPC server accepts calls while turns of its event loop are long."""

import asyncio
import time

import grpc
import pytest

from support import openai
from support.app import collect, request, running_app
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import sse
from togetherchat.v1.chat_service_pb2_grpc import ChatServiceStub
from togetherchat_server.frontends.grpc import acceptance
from togetherchat_server.frontends.grpc import server as grpc_server

CALLS = 60
MANY_CALLS = 300
TURN_S = 0.02
STREAM = sse([openai.chunk("Hi", finish_reason="stop"), openai.DONE])


@pytest.fixture
def unknown_grpcio(monkeypatch):
    """Run as with a version of grpcio whose internal functions differ."""
    monkeypatch.setattr(acceptance, "SIGNATURES", {"_handle_rpc": ("something", "else")})


async def long_turns():
    """Make each turn of the event loop as long as with a thousand streams."""
    while True:
        time.sleep(TURN_S)  # noqa: ASYNC251  that is the point
        await asyncio.sleep(0)


def call_at_once(address, calls):
    """Send calls from another thread. Return their failures, and the seconds until the last first message."""
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(10)
        began_s = time.monotonic()
        streams = [ChatServiceStub(channel).StreamComplete(request()) for _ in range(calls)]
        failures = []
        for stream in streams:
            try:
                next(stream)
            except grpc.RpcError as error:
                failures.append(error.code())
        return failures, time.monotonic() - began_s


async def failures_in_long_turns(calls):
    async with ScriptedUpstream(always(STREAM)) as upstream, running_app(upstream.base_url) as app:
        holding = asyncio.create_task(long_turns())
        result = await asyncio.to_thread(call_at_once, app.addresses.grpc, calls)
        holding.cancel()
        await asyncio.wait({holding})
    return result


def test_this_grpcio_is_known():
    """The installed grpcio has the internal functions that accept several calls in a turn."""
    assert acceptance.supported()


async def test_calls_are_accepted_several_in_a_turn():
    """Calls are served in less than half of the time that six turns for each of them take."""
    failures, served_s = await failures_in_long_turns(CALLS)

    assert [] == failures
    assert served_s < CALLS * 6 * TURN_S / 2


async def test_hundreds_of_calls_do_not_stop_grpc():
    """The wake-ups of hundreds of events are read in bulk: grpcio alone stops when 200 of them are unread."""
    failures, served_s = await failures_in_long_turns(MANY_CALLS)

    assert [] == failures
    assert served_s < MANY_CALLS * 2 * TURN_S


@pytest.mark.usefixtures("unknown_grpcio")
async def test_an_unknown_grpcio_accepts_calls_one_by_one(caplog):
    """With another grpcio the service works as before, and a warning names the limit."""
    failures, _ = await failures_in_long_turns(5)

    assert [] == failures
    assert "accepted one by one" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("unknown_grpcio")
@pytest.mark.parametrize(("seconds", "served"), [(None, True), (1, False)], ids=["set", "short"])
async def test_a_call_that_waits_to_be_accepted_is_served(monkeypatch, seconds, served):
    """gRPC's core cancels a call that waits longer than its limit; the service's limit exceeds every call."""
    name = "grpc.server_max_unrequested_time_in_server"
    if seconds is not None:
        monkeypatch.setattr(
            grpc_server, "OPTIONS", tuple({**dict(grpc_server.OPTIONS), name: seconds}.items())
        )
    failures, _ = await failures_in_long_turns(CALLS)

    assert served == (not failures)
    assert {grpc.StatusCode.CANCELLED} >= set(failures)


async def test_every_method_and_the_health_service_are_served():
    """A method has its own requests, and methods of other services are served as before."""
    async with running_app() as app:
        completed = await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        events, failure = await collect(app.chat.StreamComplete(request(model="openai/gpt-oss-120b")))
        check = app.channel.unary_unary("/grpc.health.v1.Health/Check")
        unknown = app.channel.unary_unary("/togetherchat.v1.ChatService/Unknown")
        health = await check(b"")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await unknown(b"")

    assert completed.choices
    assert events
    assert failure is None
    assert b"\x08\x01" == health
    assert grpc.StatusCode.UNIMPLEMENTED is raised.value.code()
