"""Faults of callers, one row each. Raw HTTP/2 frames do what no gRPC client does."""

import asyncio
import json
import time
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc import aio

from faults.matrix.measure import peak_growth_mib
from faults.matrix.scene import BUSY_S, CALLER_KEY, CLOSE_DEADLINE_S, METHODS, OK, Ending
from faults.responses import chunk_json, error_response, event, stream_start, valid_response
from support.app import failing, failure_of, grpc_timeout, request
from support.http2_peer import (
    DATA,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    RST_STREAM,
    http2_peer,
    status_in,
)
from support.scripted_upstream import always
from support.upstream_script import AwaitClose, Pause, Repeat, Send, Stall, sse_head
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.frontends.grpc import server as grpc_server
from togetherchat_server.telemetry.metrics import definitions as names

SERVICE = "/togetherchat.v1.ChatService"
COMPLETE, STREAM = (f"{SERVICE}/{method}" for method in METHODS)
MIB = 2**20
CANARY_HEADERS = (("authorization", f"Bearer {CALLER_KEY}"),)
CANCELLED = Ending(code="CANCELLED")
BIG = event(chunk_json("word " * 200))
FLOOD = (Send(sse_head()), Repeat(BIG, 100_000))
MESSAGE = request().SerializeToString()


@pytest.fixture
def options(monkeypatch):
    """Replace values of the server's transport options, by the last part of their names."""

    def replace(**changes):
        named = {name.rpartition(".")[2]: name for name, _ in grpc_server.OPTIONS}
        values = {**dict(grpc_server.OPTIONS), **{named[short]: value for short, value in changes.items()}}
        monkeypatch.setattr(grpc_server, "OPTIONS", tuple(values.items()))

    return replace


def is_end(frame):
    return frame.kind == HEADERS and bool(frame.flags & END_STREAM)


async def status_of_raw(peer, stream, *, within_s=5.0):
    """Return the code in the trailers of a stream, which must be sent exactly once."""
    end = await peer.seen(lambda frame: is_end(frame) and frame.stream == stream, within_s=within_s)
    assert 1 == len([frame for frame in peer.frames if is_end(frame) and frame.stream == stream])
    return grpc.StatusCode(next(code.value for code in grpc.StatusCode if code.value[0] == status_in(end)))


PHASES = [
    ("before the first token of a stream", "StreamComplete", (Send(sse_head()), Stall())),
    ("after the first token of a stream", "StreamComplete", (stream_start(chunk_json()), Stall())),
    ("before a unary response", "Complete", (Stall(),)),
    (
        "within a unary response",
        "Complete",
        (Send(b"HTTP/1.1 200 ok\r\nContent-Length: 100\r\n\r\n{"), Stall()),
    ),
]


@pytest.mark.parametrize(("phase", "method", "steps"), PHASES, ids=[phase for phase, *_ in PHASES])
async def test_cancel(phase, method, steps, stage, table):
    """A cancelled call closes the upstream's socket at once."""
    async with stage(always(steps)) as scene:
        call = scene.begin(method)
        waiting = asyncio.ensure_future(scene.ended(call))
        await scene.upstream.received()
        if isinstance(steps[0], Send):
            await scene.upstream.until(lambda log: log.requests[0].bytes_sent)
            await asyncio.sleep(0.05)
        call.leave()
        late_s = await scene.upstream.closed(0) - call.ended_at
        await asyncio.gather(waiting, return_exceptions=True)

    table(
        f"cancel {phase}",
        f"upstream closed within {CLOSE_DEADLINE_S * 1000:.0f} ms",
        f"{late_s * 1000:.0f} ms",
        holds=late_s < CLOSE_DEADLINE_S,
    )


async def test_cancel_while_backing_off(stage, table):
    """A call cancelled between two attempts sends no further request."""
    async with stage(always(error_response(503, headers={"Retry-After": "5"}))) as scene:
        call = scene.begin("Complete")
        waiting = asyncio.ensure_future(scene.ended(call))
        await scene.upstream.until(lambda log: log.requests and log.requests[0].completed_at)
        await eventually(lambda: scene.app.metrics.gauges[names.UPSTREAM_REQUESTS_IN_FLIGHT,]() == 0)
        call.leave()
        await asyncio.gather(waiting, return_exceptions=True)
        await scene.nothing_in_flight()
        sent = scene.requests_of(call)

    table("cancel while backing off", "no further request", f"sent {sent}x upstream", holds=sent == 1)


FULL = {"max_concurrent_calls": 1, "max_queued_calls": 2, "queue_timeout_s": 60}


async def fill(scene, calls=1):
    """Begin calls that use all permits, and never end by themselves."""
    held = [scene.begin("Complete") for _ in range(calls)]
    await scene.upstream.received(calls)
    return held


async def queued(scene, method="Complete", **options):
    """Begin a call that is queued."""
    before = scene.app.admission.queued
    call = scene.begin(method, **options)
    waiting = asyncio.ensure_future(scene.ended(call))
    await eventually(lambda: scene.app.admission.queued == before + 1)
    return call, waiting


@pytest.mark.parametrize("method", METHODS)
async def test_cancel_while_queued(method, stage, table):
    """Nothing is sent upstream, and the next call in the queue gets the permit."""
    async with stage(always((Stall(),)), **FULL) as scene:
        (held,) = await fill(scene)
        left, leaving = await queued(scene, method)
        _, next_one = await queued(scene, method, timeout=60)
        left.leave()
        await asyncio.gather(leaving, return_exceptions=True)
        await eventually(lambda: scene.app.admission.queued == 1)
        scene.upstream.script = valid_response
        held.leave()
        seen = await next_one
        sent = scene.requests_of(left)

    table(
        f"cancel while queued ({method})",
        "sent 0x upstream; the next in the queue: OK",
        f"sent {sent}x upstream; the next in the queue: {seen.code}",
    )


@pytest.mark.parametrize("method", METHODS)
async def test_deadline_in_the_queue(method, stage, table):
    """An expired call is never started."""
    async with stage(always((Stall(),)), **FULL) as scene:
        (held,) = await fill(scene)
        seen = await scene.ask(method, metadata=grpc_timeout(2000))
        held.leave()

    table(
        f"deadline in the queue ({method})",
        Ending(code="DEADLINE_EXCEEDED", reason="CALLER_DEADLINE", requests=0),
        seen,
    )


OVERLOADED = Ending(code="UNAVAILABLE", reason="OVERLOADED", pushback="later", requests=0)


async def test_queue_timeout(stage, table):
    """A queued call is rejected after the queue timeout."""
    async with stage(always((Stall(),)), **{**FULL, "queue_timeout_s": 0.1}) as scene:
        (held,) = await fill(scene)
        seen = [await scene.ask(method) for method in METHODS]
        held.leave()

    table("no permit within the queue timeout", OVERLOADED, *seen)


async def test_queue_full(stage, table):
    """One more call is rejected at once."""
    async with stage(always((Stall(),)), **FULL) as scene:
        (held,) = await fill(scene)
        waiting = [await queued(scene) for _ in range(2)]
        seen = [await scene.ask(method) for method in METHODS]
        for call in (held, *(call for call, _ in waiting)):
            call.leave()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)

    table("all permits in use, and the queue full", OVERLOADED, *seen)


async def test_over_quota(stage, table):
    """One caller's key has a bound on its permits; another caller has its own bound."""
    async with stage(
        always((Stall(),)),
        upstream_credentials="caller",
        key=None,
        max_concurrent_calls_per_caller=2,
        max_concurrent_calls=10,
    ) as scene:
        held = await fill(scene, 2)
        seen = [await scene.ask(method) for method in METHODS]
        scene.upstream.script = valid_response
        other = scene.app.chat.Complete(
            request(), metadata=[("authorization", "Bearer another-canary-0123456789")]
        )
        await other
        for call in held:
            call.leave()

    table(
        "over quota",
        Ending(code="RESOURCE_EXHAUSTED", reason="CALLER_QUOTA", pushback="later", requests=0),
        *seen,
    )


@pytest.mark.parametrize("method", METHODS)
async def test_cancel_in_the_same_tick_as_completion(method, stage, table):
    """Either code is correct; all permits are released, and every call has a record."""
    async with stage() as scene:
        for ticks in range(60):
            finish = asyncio.Event()
            scene.upstream.script = lambda received, finish=finish: (Pause(finish), *valid_response(received))
            call = scene.begin(method)
            waiting = asyncio.ensure_future(scene.ended(call))
            before = len(scene.upstream.request_log.requests)
            await scene.upstream.received(before + 1)
            finish.set()
            for _ in range(ticks):
                await asyncio.sleep(0)
            call.leave()
            await asyncio.gather(waiting, return_exceptions=True)
        scene.upstream.script = valid_response

    codes = {record["code"] for record in scene.app.records()}
    table(
        f"cancel in the same tick as completion ({method})",
        "OK or CANCELLED",
        *codes,
        holds=codes <= {"OK", "CANCELLED"},
    )


async def test_deadline_mid_stream(stage, table):
    """The events received are kept; the record has the deadline, not a cancel."""
    async with stage(always((stream_start(chunk_json()), Stall()))) as scene:
        seen = await scene.ask("StreamComplete", metadata=grpc_timeout(2000))

    table("deadline mid-stream", Ending(code="DEADLINE_EXCEEDED", reason="CALLER_DEADLINE", text="Hi"), seen)


async def test_no_deadline(stage, table):
    """The call timeout of the service applies."""
    async with stage(always((Stall(),)), call_timeout_s=0.3) as scene:
        seen = [await scene.ask(method) for method in METHODS]

    table("no deadline at all", Ending(code="DEADLINE_EXCEEDED", reason="CALL_TIMEOUT", pushback="-1"), *seen)


@pytest.mark.parametrize("deadline", ["1n", "0n", "1u"])
@pytest.mark.parametrize("method", [COMPLETE, STREAM])
async def test_a_deadline_of_nothing(deadline, method, stage, table):
    """The deadline has passed before it is read: nothing is sent upstream."""
    async with stage() as scene:
        async with http2_peer(scene.app.addresses.grpc) as peer:
            peer.call(1, method, MESSAGE, [("grpc-timeout", deadline), *CANARY_HEADERS])
            code = await ended_raw(peer, 1)
        sent = len(scene.upstream.request_log.requests)

    table(f"a deadline of {deadline}", "DEADLINE_EXCEEDED or a reset, sent 0x upstream", f"{code}, sent {sent}x upstream",
          holds=code in {"DEADLINE_EXCEEDED", "RST_STREAM"} and sent == 0)  # fmt: skip


async def ended_raw(peer, stream):
    """Return how a stream ended: its status, or RST_STREAM."""
    end = await peer.seen(
        lambda frame: frame.stream == stream and (is_end(frame) or frame.kind == RST_STREAM)
    )
    return "RST_STREAM" if end.kind == RST_STREAM else (await status_of_raw(peer, stream)).name


@pytest.mark.parametrize("deadline", ["876000H", "99999999H", "99999999S"])
async def test_a_deadline_of_a_hundred_years(deadline, stage, table):
    """The call timeout of the service applies, and nothing overflows."""
    async with stage() as scene, http2_peer(scene.app.addresses.grpc) as peer:
        peer.call(1, COMPLETE, MESSAGE, [("grpc-timeout", deadline), *CANARY_HEADERS])
        code = await status_of_raw(peer, 1)

    table(f"a deadline of {deadline}", grpc.StatusCode.OK, code)


async def test_slow_reader(stage, table):
    """A slow reader is not a stalled one; the upstream is read no faster, and memory stays flat.

    The kernel buffers some 35 MiB of the upstream's 120 before the service reads them.
    """
    async with stage(always(FLOOD), write_timeout_s=5, max_stream_bytes=2**30) as scene:
        call = scene.begin("StreamComplete")
        await call.grpc.read()
        with peak_growth_mib() as growth:
            for _ in range(150):
                await call.grpc.read()
                await asyncio.sleep(0.01)
            grown = growth()
        sent_mib = scene.upstream.request_log.requests[0].bytes_sent / MIB
        assert not call.grpc.done()
        call.leave()

    table("slow reader", "still served; peak below 32 MiB, backpressure on the upstream", f"peak {grown:.0f} MiB, upstream sent {sent_mib:.1f} MiB",
          holds=grown < 32 and sent_mib < 64)  # fmt: skip


async def test_a_reader_that_stops(stage, table):
    """After the write timeout everything is released; a caller that reads on gets the status."""
    async with stage(always(FLOOD), write_timeout_s=0.4, max_stream_bytes=2**30) as scene:
        call = scene.begin("StreamComplete")
        closed_s = await scene.upstream.closed(0)
        await scene.nothing_in_flight()
        seen = await scene.ended(call)
        assert closed_s < call.ended_at

    table(
        "a reader that stops, and continues later", "CANCELLED CALLER_STALLED", f"{seen.code} {seen.reason}"
    )


@pytest.mark.parametrize("method", [COMPLETE, STREAM])
async def test_zero_window_peer(method, stage, table):
    """The peer's window is zero, so it reads no response: the permit is released after the timeout."""
    async with (
        stage(max_concurrent_calls=1, write_timeout_s=0.3) as scene,
        http2_peer(scene.app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        peer.call(1, method, MESSAGE, CANARY_HEADERS)
        await peer.seen(lambda frame: frame.kind == HEADERS)
        began_s = time.monotonic()
        await scene.nothing_in_flight()
        held_s = time.monotonic() - began_s
        assert not [frame for frame in peer.frames if frame.kind == DATA]

    table(
        f"zero-window peer ({method.rpartition('/')[2]})",
        "its permit is released after 0.3 s",
        f"{held_s:.2f} s",
        holds=held_s < 0.3 + BUSY_S,
    )


async def test_zero_window_peers_do_not_add_up(stage, table):
    """A hundred calls of one such peer, four at a time: permits are released, others are served."""
    async with (
        stage(max_concurrent_calls=4, write_timeout_s=0.05) as scene,
        http2_peer(scene.app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        for number in range(100):
            peer.call(2 * number + 1, COMPLETE, MESSAGE, CANARY_HEADERS)
            if number % 4 == 3:
                await eventually(lambda begun=number + 1: len(scene.upstream.request_log.requests) == begun)
                await scene.nothing_in_flight()
        seen = await scene.ask("Complete")

    table("zero-window calls, a hundred on one connection", OK, seen)


async def test_half_open_peer(stage, table, options):
    """A peer that was cut off answers no ping: its call ends within ping interval and timeout."""
    options(keepalive_time_ms=200, ping_timeout_ms=200)
    async with (
        stage(always((stream_start(chunk_json()), AwaitClose()))) as scene,
        http2_peer(scene.app.addresses.grpc, pongs=False) as peer,
    ):
        peer.call(1, STREAM, MESSAGE, CANARY_HEADERS)
        await scene.upstream.received()
        began_s = time.monotonic()
        late_s = await scene.upstream.closed(0) - began_s

    table(
        "half-open peer",
        "upstream closed within 0.2 s + 0.2 s",
        f"{late_s:.2f} s",
        holds=late_s < 0.4 + BUSY_S,
    )


async def test_message_over_the_limit(stage, table, options):
    """gRPC rejects it by the length in its header."""
    options(max_receive_message_length=MIB)
    async with stage() as scene:
        failure = await failing(scene.app.channel.unary_unary(COMPLETE)(bytes(MIB + 1)))
        sent = len(scene.upstream.request_log.requests)

    table(
        "a message over the limit",
        "RESOURCE_EXHAUSTED, sent 0x upstream",
        f"{failure.code.name}, sent {sent}x upstream",
    )


async def test_message_over_the_limit_once_decompressed(stage, table, options):
    """64 MB of zeros in 64 KB are rejected without being decompressed first."""
    options(max_receive_message_length=MIB)
    message = request("x" * (64 * MIB)).SerializeToString()
    async with (
        stage(grpc_request_compression=True) as scene,
        aio.insecure_channel(
            scene.app.addresses.grpc,
            options=[("grpc.max_send_message_length", -1)],
            compression=grpc.Compression.Gzip,
        ) as channel,
    ):
        failure = await failing(channel.unary_unary(COMPLETE)(message))
        sent = len(scene.upstream.request_log.requests)

    table(
        "a message over the limit once decompressed",
        "RESOURCE_EXHAUSTED, sent 0x upstream",
        f"{failure.code.name}, sent {sent}x upstream",
    )


@pytest.mark.parametrize(
    "message",
    [b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", b"\xff" * 100],
    ids=["length", "utf-8", "noise"],
)
async def test_broken_message(message, stage, table):
    """The message is a fixed text, not that of the parser."""
    async with stage() as scene:
        failure = await failing(scene.app.channel.unary_unary(COMPLETE)(message))

    table("a message that cannot be parsed", "INVALID_ARGUMENT INVALID_REQUEST: the request is not a valid togetherchat.v1.CompleteRequest message",
          f"{failure.code.name} {failure.info.reason}: {failure.message}")  # fmt: skip


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "number", [DEEP, "1e999", "9" * 5000], ids=["100,000 arrays", "1e999", "5,000 digits"]
)
@pytest.mark.parametrize("name", ["extra_body_json", "chat_template_kwargs_json"])
async def test_hostile_json_in_a_field(name, number, stage, table):
    """Deep or extreme JSON of a caller is rejected or passed on, and never an internal error."""
    async with stage() as scene:
        seen = await scene.ask("Complete", **{name: f'{{"a": {number}}}'})

    table(
        f"{number[:6]}... in {name}",
        "OK or INVALID_ARGUMENT",
        seen.code,
        holds=seen.code in {"OK", "INVALID_ARGUMENT"},
    )


HEADER_FLOODS = {
    "one of 100 KB": [("x-much", "x" * 100_000)],
    "2,000 small ones": [(f"x-{number}", "x") for number in range(2000)],
}


@pytest.mark.parametrize("flood", HEADER_FLOODS)
async def test_huge_metadata(flood, stage, table):
    """gRPC rejects it; the service never sees the call."""
    async with stage() as scene:
        failure = await failing(
            scene.app.chat.Complete(request(), metadata=[*HEADER_FLOODS[flood], *CANARY_HEADERS])
        )
        sent = len(scene.upstream.request_log.requests)

    table(
        f"metadata: {flood}",
        "RESOURCE_EXHAUSTED, sent 0x upstream",
        f"{failure.code.name}, sent {sent}x upstream",
    )


@pytest.mark.parametrize("name", ["x-request-id", "traceparent", "grpc-previous-rpc-attempts"])
async def test_duplicate_metadata(name, stage, table):
    """A duplicate is ignored; the call is served."""
    async with stage() as scene:
        call = scene.app.chat.Complete(request(), metadata=[(name, "1"), (name, "2"), *CANARY_HEADERS])
        await call
        (sent,) = scene.upstream.request_log.requests

    table(f"{name} twice", grpc.StatusCode.OK, await call.code())
    assert sent.headers.get(name) not in {"1", "2", "1, 2"}


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "MISSING_CREDENTIALS"),
        ((("authorization", f"Basic {CALLER_KEY}"),), "INVALID_CREDENTIALS"),
        ((("authorization", f"Bearer {CALLER_KEY}"), ("authorization", f"Bearer {CALLER_KEY}")), "INVALID_CREDENTIALS"),
        ((("authorization", f"Bearer {CALLER_KEY} {CALLER_KEY}"),), "INVALID_CREDENTIALS"),
    ],
    ids=["missing", "another scheme", "two", "a space"],
)  # fmt: skip
async def test_wrong_credentials(metadata, reason, stage, table):
    """The call is rejected by its metadata alone."""
    async with stage(upstream_credentials="caller", key=None) as scene:
        failure = await failing(scene.app.chat.Complete(request(), metadata=metadata))
        sent = len(scene.upstream.request_log.requests)

    table(
        "missing or wrong credentials",
        f"UNAUTHENTICATED {reason}, sent 0x upstream",
        f"{failure.code.name} {failure.info.reason}, sent {sent}x upstream",
    )


async def test_a_rejected_key_of_a_caller(stage, table):
    """The provider's rejection reaches the caller, without the key."""
    rejected = error_response(401, message=f"Invalid API key provided: {CALLER_KEY}", code="invalid_api_key")
    async with stage(always(rejected), upstream_credentials="caller", key=None) as scene:
        seen = [await scene.ask(method) for method in METHODS]

    table("401 to a caller's key", Ending(code="UNAUTHENTICATED", reason="CALLER_KEY_REJECTED"), *seen)


async def test_ten_thousand_streams_at_once(stage, table):
    """One connection has at most 1,024 calls in flight; others are served meanwhile."""
    async with stage(
        lambda received: (Pause(0.5), *valid_response(received)), max_concurrent_calls=2000
    ) as scene:
        async with http2_peer(scene.app.addresses.grpc) as peer:
            for number in range(10_000):
                peer.call(2 * number + 1, COMPLETE, MESSAGE, CANARY_HEADERS)
            await scene.upstream.received()
            seen = await scene.ask("Complete", timeout=30)
            peak = len(scene.upstream.request_log.connections)
        await eventually(lambda: scene.app.admission.in_flight == 0, within_s=30)

    table("10,000 streams at once on one connection", "others are served; at most 1,024 of these are in flight", f"{seen.code}; {peak} connections upstream",
          holds=seen.code == "OK" and peak <= 1025)  # fmt: skip


async def test_rapid_reset(stage, table):
    """Ten thousand calls are reset at once."""
    async with stage() as scene:
        async with http2_peer(scene.app.addresses.grpc) as peer:
            for number in range(10_000):
                peer.call(2 * number + 1, COMPLETE, MESSAGE, CANARY_HEADERS)
                peer.reset(2 * number + 1)
            await peer.flush()
            began_s = time.monotonic()
            seen = await scene.ask("Complete", timeout=30)
            took_s = time.monotonic() - began_s
        await eventually(lambda: scene.app.admission.in_flight == 0, within_s=30)
        for number in range(len(scene.upstream.request_log.connections)):
            connection = scene.upstream.request_log.connections[number]
            assert connection.closed_at or connection.requests[-1].completed_at
    table(
        "10,000 rapid resets",
        "another caller is served",
        f"{seen.code} after {took_s:.1f} s",
        holds=seen.code == "OK",
    )


async def test_headers_then_silence(stage, table):
    """The permit of a call whose message never arrives is released."""
    async with (
        stage(max_concurrent_calls=1, request_read_timeout_s=0.2) as scene,
        http2_peer(scene.app.addresses.grpc) as peer,
    ):
        peer.open(1, COMPLETE, CANARY_HEADERS)
        await eventually(lambda: scene.app.admission.in_flight == 1)
        began_s = time.monotonic()
        await scene.nothing_in_flight()
        held_s = time.monotonic() - began_s

    table(
        "headers, then silence",
        "its permit is released after 0.2 s",
        f"{held_s:.2f} s",
        holds=held_s < 0.2 + BUSY_S,
    )


@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP/2.0\r\n"], ids=["nothing", "half a preface"])
async def test_tcp_connect_then_silence(sent, stage, table, options):
    """The connection is closed after the handshake timeout, scaled down from 10 s."""
    options(server_handshake_timeout_ms=200)
    async with stage() as scene:
        host, _, port = scene.app.addresses.grpc.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        began_s = time.monotonic()
        async with asyncio.timeout(5):
            while await reader.read(1024):
                pass
        held_s = time.monotonic() - began_s
        writer.close()

    table(
        "TCP connect, then silence",
        "closed after 0.2 s",
        f"{held_s:.2f} s",
        holds=held_s < 0.2 + BUSY_S,
    )


async def test_reconnect_storm(stage, table):
    """Two hundred callers connect at once, send a call and disconnect; three times."""
    began_s = time.monotonic()
    async with stage() as scene:
        for _ in range(3):
            async with AsyncExitStack() as stack:
                peers = await asyncio.gather(
                    *(stack.enter_async_context(http2_peer(scene.app.addresses.grpc)) for _ in range(200))
                )
                for peer in peers:
                    peer.call(1, COMPLETE, MESSAGE, CANARY_HEADERS)
                codes = await asyncio.gather(*(status_of_raw(peer, 1, within_s=30) for peer in peers))
            assert {grpc.StatusCode.OK} == set(codes)
        took_s = time.monotonic() - began_s

    table(
        "a reconnect storm of 200, three times",
        "every call served",
        f"in {took_s:.1f} s",
        holds=took_s < 30,
    )


async def test_client_and_service_retry_together(stage, table):
    """Each of the caller's three attempts is recorded, and the total number of requests is bounded."""
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    async with (
        stage(always(error_response(503)), after="another/model") as scene,
        aio.insecure_channel(scene.app.addresses.grpc, options=[("grpc.service_config", config)]) as channel,
    ):
        try:
            await service_grpc.ChatServiceStub(channel).Complete(request(), metadata=CANARY_HEADERS)
        except aio.AioRpcError as error:
            failure = failure_of(error)
        sent = len(scene.upstream.request_log.requests)

    previous = [record["previous_attempts"] for record in scene.app.records()[:3]]
    table("retries of client and service together", "UNAVAILABLE, at most 3 x 3 requests, attempts [0, 1, 2] in the records",
          f"{failure.code.name}, {sent} requests, attempts {previous} in the records",
          holds=(failure.code, previous) == (grpc.StatusCode.UNAVAILABLE, [0, 1, 2]) and sent <= 9)  # fmt: skip
