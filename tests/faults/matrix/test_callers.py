"""What a caller can do wrong, a row each. What no gRPC client does is done by hand-written frames."""

import asyncio
import json
import time
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc import aio

from faults.answers import begun, event, piece, told, well
from faults.matrix.measure import peak_growth_mib
from faults.matrix.scene import BUSY_S, CALLER_KEY, METHODS, OK, PROMISE_S, Ending
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
from togetherchat_server.frontends.grpc import server as front

SERVICE = "/togetherchat.v1.ChatService"
COMPLETE, STREAM = (f"{SERVICE}/{method}" for method in METHODS)
MIB = 2**20
CANARY_HEADERS = (("authorization", f"Bearer {CALLER_KEY}"),)
CANCELLED = Ending(code="CANCELLED")
BIG = event(piece("word " * 200))
FLOOD = (Send(sse_head()), Repeat(BIG, 100_000))
MESSAGE = request().SerializeToString()


@pytest.fixture
def options(monkeypatch):
    """Replace values of the server's transport options, by the last word of their names."""

    def replace(**changes):
        named = {name.rpartition(".")[2]: name for name, _ in front.OPTIONS}
        values = {**dict(front.OPTIONS), **{named[short]: value for short, value in changes.items()}}
        monkeypatch.setattr(front, "OPTIONS", tuple(values.items()))

    return replace


def is_end(frame):
    return frame.kind == HEADERS and bool(frame.flags & END_STREAM)


async def status_of_raw(peer, stream, *, within_s=5.0):
    """The code in the trailers of a stream, of which there is one block."""
    end = await peer.seen(lambda frame: is_end(frame) and frame.stream == stream, within_s=within_s)
    assert 1 == len([frame for frame in peer.frames if is_end(frame) and frame.stream == stream])
    return grpc.StatusCode(next(code.value for code in grpc.StatusCode if code.value[0] == status_in(end)))


PHASES = [
    ("before the first token of a stream", "StreamComplete", (Send(sse_head()), Stall())),
    ("after the first token of a stream", "StreamComplete", (begun(piece()), Stall())),
    ("before a whole answer", "Complete", (Stall(),)),
    (
        "within a whole answer",
        "Complete",
        (Send(b"HTTP/1.1 200 ok\r\nContent-Length: 100\r\n\r\n{"), Stall()),
    ),
]


@pytest.mark.parametrize(("phase", "method", "steps"), PHASES, ids=[phase for phase, *_ in PHASES])
async def test_cancel(phase, method, steps, stage, table):
    """The upstream's socket is closed at once."""
    async with stage(always(steps)) as scene:
        call = scene.begin(method)
        waiting = asyncio.ensure_future(scene.ended(call))
        await scene.upstream.asked()
        if isinstance(steps[0], Send):
            await scene.upstream.until(lambda ledger: ledger.requests[0].bytes_sent)
            await asyncio.sleep(0.05)
        call.leave()
        late_s = await scene.upstream.closed(0) - call.ended_at
        await asyncio.gather(waiting, return_exceptions=True)

    table(
        f"cancel {phase}",
        f"upstream closed within {PROMISE_S * 1000:.0f} ms",
        f"{late_s * 1000:.0f} ms",
        holds=late_s < PROMISE_S,
    )


async def test_cancel_while_backing_off(stage, table):
    """Nothing is sent any more."""
    async with stage(always(told(503, headers={"Retry-After": "5"}))) as scene:
        call = scene.begin("Complete")
        waiting = asyncio.ensure_future(scene.ended(call))
        await scene.upstream.until(lambda ledger: ledger.requests and ledger.requests[0].answered_at)
        await eventually(lambda: scene.app.gauges["upstream_requests_in_flight"]() == 0)
        call.leave()
        await asyncio.gather(waiting, return_exceptions=True)
        await scene.nothing_in_flight()
        asked = scene.requests_of(call)

    table("cancel while backing off", "no further request", f"asked {asked}x", holds=asked == 1)


FULL = {"max_concurrent_calls": 1, "max_queued_calls": 2, "queue_timeout_s": 5}


async def filled(scene, calls=1):
    """Calls that hold every place, and never end by themselves."""
    held = [scene.begin("Complete") for _ in range(calls)]
    await scene.upstream.asked(calls)
    return held


async def queued(scene, method="Complete", **options):
    """A call that waits for a place."""
    before = scene.app.admission.waiting
    call = scene.begin(method, **options)
    waiting = asyncio.ensure_future(scene.ended(call))
    await eventually(lambda: scene.app.admission.waiting == before + 1)
    return call, waiting


@pytest.mark.parametrize("method", METHODS)
async def test_cancel_while_queued(method, stage, table):
    """Nothing is sent upstream, and the place is given to the next."""
    async with stage(always((Stall(),)), **FULL) as scene:
        (held,) = await filled(scene)
        left, leaving = await queued(scene, method)
        _, next_one = await queued(scene, method, timeout=60)
        left.leave()
        await asyncio.gather(leaving, return_exceptions=True)
        await eventually(lambda: scene.app.admission.waiting == 1)
        scene.upstream.script = well
        held.leave()
        seen = await next_one
        asked = scene.requests_of(left)

    table(
        f"cancel while queued ({method})",
        "asked 0x; the next in the queue: OK",
        f"asked {asked}x; the next in the queue: {seen.code}",
    )


@pytest.mark.parametrize("method", METHODS)
async def test_deadline_in_the_queue(method, stage, table):
    """Work for a caller whose time is up is never begun."""
    async with stage(always((Stall(),)), **FULL) as scene:
        (held,) = await filled(scene)
        seen = await (await queued(scene, method, metadata=grpc_timeout(500)))[1]
        held.leave()

    table(
        f"deadline in the queue ({method})",
        Ending(code="DEADLINE_EXCEEDED", reason="CALLER_DEADLINE", requests=0),
        seen,
    )


OVERLOADED = Ending(code="UNAVAILABLE", reason="OVERLOADED", pushback="later", requests=0)


async def test_no_place_in_time(stage, table):
    """A wait in the queue has a limit of its own."""
    async with stage(always((Stall(),)), **{**FULL, "queue_timeout_s": 0.1}) as scene:
        (held,) = await filled(scene)
        seen = [await scene.ask(method) for method in METHODS]
        held.leave()

    table("no place within the limit of the queue", OVERLOADED, *seen)


async def test_queue_full(stage, table):
    """One more is refused at once."""
    async with stage(always((Stall(),)), **FULL) as scene:
        (held,) = await filled(scene)
        waiting = [await queued(scene) for _ in range(2)]
        seen = [await scene.ask(method) for method in METHODS]
        for call in (held, *(call for call, _ in waiting)):
            call.leave()
        await asyncio.gather(*(one for _, one in waiting), return_exceptions=True)

    table("every place taken, and the queue full", OVERLOADED, *seen)


async def test_over_quota(stage, table):
    """One caller's key may hold so many places; another caller has its own."""
    async with stage(
        always((Stall(),)),
        upstream_credentials="caller",
        key=None,
        max_concurrent_calls_per_caller=2,
        max_concurrent_calls=10,
    ) as scene:
        held = await filled(scene, 2)
        seen = [await scene.ask(method) for method in METHODS]
        scene.upstream.script = well
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
    """Either ending will do; the books balance all the same."""
    async with stage() as scene:
        for ticks in range(60):
            finish = asyncio.Event()
            scene.upstream.script = lambda asked, finish=finish: (Pause(finish), *well(asked))
            call = scene.begin(method)
            waiting = asyncio.ensure_future(scene.ended(call))
            before = len(scene.upstream.ledger.requests)
            await scene.upstream.asked(before + 1)
            finish.set()
            for _ in range(ticks):
                await asyncio.sleep(0)
            call.leave()
            await asyncio.gather(waiting, return_exceptions=True)
        scene.upstream.script = well

    codes = {record["code"] for record in scene.app.records()}
    table(
        f"cancel in the same tick as completion ({method})",
        "OK or CANCELLED",
        *codes,
        holds=codes <= {"OK", "CANCELLED"},
    )


async def test_deadline_mid_stream(stage, table):
    """What arrived stands; the books say deadline, not cancel."""
    async with stage(always((begun(piece()), Stall()))) as scene:
        seen = await scene.ask("StreamComplete", metadata=grpc_timeout(2000))

    table("deadline mid-stream", Ending(code="DEADLINE_EXCEEDED", reason="CALLER_DEADLINE", text="Hi"), seen)


async def test_no_deadline(stage, table):
    """The service has a limit of its own."""
    async with stage(always((Stall(),)), call_timeout_s=0.3) as scene:
        seen = [await scene.ask(method) for method in METHODS]

    table("no deadline at all", Ending(code="DEADLINE_EXCEEDED", reason="CALL_TIMEOUT", pushback="-1"), *seen)


@pytest.mark.parametrize("deadline", ["1n", "0n", "1u"])
@pytest.mark.parametrize("method", [COMPLETE, STREAM])
async def test_a_deadline_of_nothing(deadline, method, stage, table):
    """It has passed before it is read: nothing is sent upstream."""
    async with stage() as scene:
        async with http2_peer(scene.app.addresses.grpc) as peer:
            peer.call(1, method, MESSAGE, [("grpc-timeout", deadline), *CANARY_HEADERS])
            code = await ended_raw(peer, 1)
        asked = len(scene.upstream.ledger.requests)

    table(f"a deadline of {deadline}", "DEADLINE_EXCEEDED or a reset, asked 0x", f"{code}, asked {asked}x",
          holds=code in {"DEADLINE_EXCEEDED", "RST_STREAM"} and asked == 0)  # fmt: skip


async def ended_raw(peer, stream):
    """How a stream ended: a status, or a reset."""
    end = await peer.seen(
        lambda frame: frame.stream == stream and (is_end(frame) or frame.kind == RST_STREAM)
    )
    return "RST_STREAM" if end.kind == RST_STREAM else (await status_of_raw(peer, stream)).name


@pytest.mark.parametrize("deadline", ["876000H", "99999999H", "99999999S"])
async def test_a_deadline_of_a_hundred_years(deadline, stage, table):
    """It is the service's own limit that counts, and nothing overflows."""
    async with stage() as scene, http2_peer(scene.app.addresses.grpc) as peer:
        peer.call(1, COMPLETE, MESSAGE, [("grpc-timeout", deadline), *CANARY_HEADERS])
        code = await status_of_raw(peer, 1)

    table(f"a deadline of {deadline}", grpc.StatusCode.OK, code)


async def test_slow_reader(stage, table):
    """A caller who reads slowly is no stalled one; the upstream is read no faster, and memory stays flat.

    What the kernel takes of the upstream's before we read it, some 35 MiB of 120, is not ours.
    """
    async with stage(always(FLOOD), write_timeout_s=5, max_stream_bytes=2**30) as scene:
        call = scene.begin("StreamComplete")
        await call.grpc.read()
        with peak_growth_mib() as growth:
            for _ in range(150):
                await call.grpc.read()
                await asyncio.sleep(0.01)
            grown = growth()
        sent_mib = scene.upstream.ledger.requests[0].bytes_sent / MIB
        assert not call.grpc.done()
        call.leave()

    table("slow reader", "served on; peak below 32 MiB, upstream held back", f"peak {grown:.0f} MiB, upstream sent {sent_mib:.1f} MiB",
          holds=grown < 32 and sent_mib < 64)  # fmt: skip


async def test_a_reader_that_stops(stage, table):
    """After the limit of a stalled write everything is released; whoever reads on hears the end."""
    async with stage(always(FLOOD), write_timeout_s=0.4, max_stream_bytes=2**30) as scene:
        call = scene.begin("StreamComplete")
        closed_s = await scene.upstream.closed(0)
        await scene.nothing_in_flight()
        seen = await scene.ended(call)
        assert closed_s < call.ended_at

    table("a reader that stops, and reads on later", "CANCELLED CALLER_STALLED", f"{seen.code} {seen.reason}")


@pytest.mark.parametrize("method", [COMPLETE, STREAM])
async def test_zero_window_peer(method, stage, table):
    """With its window at zero it takes no answer: its place is given back after the limit."""
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
        "its place is back after 0.3 s",
        f"{held_s:.2f} s",
        holds=held_s < 0.3 + BUSY_S,
    )


async def test_zero_window_peers_do_not_add_up(stage, table):
    """A hundred calls of one such peer, four at a time: their places come back, others are served."""
    async with (
        stage(max_concurrent_calls=4, write_timeout_s=0.05) as scene,
        http2_peer(scene.app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        for number in range(100):
            peer.call(2 * number + 1, COMPLETE, MESSAGE, CANARY_HEADERS)
            if number % 4 == 3:
                await eventually(lambda ended=number + 1: len(scene.app.records()) == ended)
        await scene.nothing_in_flight()
        seen = await scene.ask("Complete")

    table("zero-window calls, a hundred on one connection", OK, seen)


async def test_half_open_peer(stage, table, options):
    """A peer that was cut off answers no ping: its call ends within ping interval and limit."""
    options(keepalive_time_ms=200, ping_timeout_ms=200)
    async with (
        stage(always((begun(piece()), AwaitClose()))) as scene,
        http2_peer(scene.app.addresses.grpc, pongs=False) as peer,
    ):
        peer.call(1, STREAM, MESSAGE, CANARY_HEADERS)
        await scene.upstream.asked()
        began_s = time.monotonic()
        late_s = await scene.upstream.closed(0) - began_s

    table(
        "half-open peer",
        "upstream closed within 0.2 s + 0.2 s",
        f"{late_s:.2f} s",
        holds=late_s < 0.4 + BUSY_S,
    )


async def test_message_over_the_limit(stage, table, options):
    """gRPC refuses it by the length at its head."""
    options(max_receive_message_length=MIB)
    async with stage() as scene:
        failure = await failing(scene.app.channel.unary_unary(COMPLETE)(bytes(MIB + 1)))
        asked = len(scene.upstream.ledger.requests)

    table("a message over the limit", "RESOURCE_EXHAUSTED, asked 0x", f"{failure.code.name}, asked {asked}x")


async def test_message_over_the_limit_once_unpacked(stage, table, options):
    """64 MB of zeros in 64 KB: refused, and not unpacked first."""
    options(max_receive_message_length=MIB)
    packed = request("x" * (64 * MIB)).SerializeToString()
    async with (
        stage() as scene,
        aio.insecure_channel(
            scene.app.addresses.grpc,
            options=[("grpc.max_send_message_length", -1)],
            compression=grpc.Compression.Gzip,
        ) as channel,
    ):
        failure = await failing(channel.unary_unary(COMPLETE)(packed))
        asked = len(scene.upstream.ledger.requests)

    table(
        "a message over the limit once unpacked",
        "RESOURCE_EXHAUSTED, asked 0x",
        f"{failure.code.name}, asked {asked}x",
    )


@pytest.mark.parametrize(
    "message",
    [b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", b"\xff" * 100],
    ids=["length", "utf-8", "noise"],
)
async def test_broken_message(message, stage, table):
    """A fixed text, and none of the parser's."""
    async with stage() as scene:
        failure = await failing(scene.app.channel.unary_unary(COMPLETE)(message))

    table("a message that cannot be parsed", "INVALID_ARGUMENT INVALID_REQUEST: the request is no valid message of this contract",
          f"{failure.code.name} {failure.info.reason}: {failure.message}")  # fmt: skip


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "number", [DEEP, "1e999", "9" * 5000], ids=["100,000 arrays", "1e999", "5,000 digits"]
)
@pytest.mark.parametrize("name", ["extra_body_json", "chat_template_kwargs_json"])
async def test_hostile_json_in_a_field(name, number, stage, table):
    """Depth and numbers of a caller's own JSON: refused or passed on, never an exception."""
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
    """gRPC refuses it; the service never sees the call."""
    async with stage() as scene:
        failure = await failing(
            scene.app.chat.Complete(request(), metadata=[*HEADER_FLOODS[flood], *CANARY_HEADERS])
        )
        asked = len(scene.upstream.ledger.requests)

    table(f"metadata: {flood}", "RESOURCE_EXHAUSTED, asked 0x", f"{failure.code.name}, asked {asked}x")


@pytest.mark.parametrize("name", ["x-request-id", "traceparent", "grpc-previous-rpc-attempts"])
async def test_duplicate_metadata(name, stage, table):
    """Two values are none; the call is answered."""
    async with stage() as scene:
        call = scene.app.chat.Complete(request(), metadata=[(name, "1"), (name, "2"), *CANARY_HEADERS])
        await call
        (sent,) = scene.upstream.ledger.requests

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
    """Refused by its metadata alone."""
    async with stage(upstream_credentials="caller", key=None) as scene:
        failure = await failing(scene.app.chat.Complete(request(), metadata=metadata))
        asked = len(scene.upstream.ledger.requests)

    table(
        "missing or wrong credentials",
        f"UNAUTHENTICATED {reason}, asked 0x",
        f"{failure.code.name} {failure.info.reason}, asked {asked}x",
    )


async def test_a_rejected_key_of_a_caller(stage, table):
    """The provider's word on a caller's key reaches that caller, without the key."""
    rejected = told(401, message=f"Invalid API key provided: {CALLER_KEY}", code="invalid_api_key")
    async with stage(always(rejected), upstream_credentials="caller", key=None) as scene:
        seen = [await scene.ask(method) for method in METHODS]

    table("401 to a caller's key", Ending(code="UNAUTHENTICATED", reason="CALLER_KEY_REJECTED"), *seen)


async def test_ten_thousand_streams_at_once(stage, table):
    """On one connection no more run than the bound on streams; others are served meanwhile."""
    async with stage(lambda asked: (Pause(0.5), *well(asked)), max_concurrent_calls=2000) as scene:
        async with http2_peer(scene.app.addresses.grpc) as peer:
            for number in range(10_000):
                peer.call(2 * number + 1, COMPLETE, MESSAGE, CANARY_HEADERS)
            await scene.upstream.asked()
            seen = await scene.ask("Complete", timeout=30)
            peak = len(scene.upstream.ledger.connections)
        await eventually(lambda: scene.app.admission.in_flight == 0, within_s=30)

    table("10,000 streams at once on one connection", "others are served; at most 1,024 of it run", f"{seen.code}; {peak} connections upstream",
          holds=seen.code == "OK" and peak <= 1025)  # fmt: skip


async def test_rapid_reset(stage, table):
    """Ten thousand calls, each taken back at once."""
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
        for number in range(len(scene.upstream.ledger.connections)):
            connection = scene.upstream.ledger.connections[number]
            assert connection.closed_at or connection.requests[-1].answered_at
    table(
        "10,000 rapid resets",
        "another caller is served",
        f"{seen.code} after {took_s:.1f} s",
        holds=seen.code == "OK",
    )


async def test_headers_then_silence(stage, table):
    """The place of a call whose message never comes is given back."""
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
        "its place is back after 0.2 s",
        f"{held_s:.2f} s",
        holds=held_s < 0.2 + BUSY_S,
    )


@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0\r\n"], ids=["nothing", "half a preface"])
async def test_tcp_connect_then_silence(said, stage, table, options):
    """Closed after the limit of the handshake; scaled down from 10 s."""
    options(server_handshake_timeout_ms=200)
    async with stage() as scene:
        host, _, port = scene.app.addresses.grpc.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
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
    """Two hundred callers connect at once, ask, and vanish; three times."""
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
        "every call answered",
        f"in {took_s:.1f} s",
        holds=took_s < 30,
    )


async def test_client_and_gateway_retry_together(stage, table):
    """A caller with three attempts of its own: each is seen and counted, and their sum is bounded."""
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    async with (
        stage(always(told(503)), after="another/model") as scene,
        aio.insecure_channel(scene.app.addresses.grpc, options=[("grpc.service_config", config)]) as channel,
    ):
        try:
            await service_grpc.ChatServiceStub(channel).Complete(request(), metadata=CANARY_HEADERS)
        except aio.AioRpcError as error:
            failure = failure_of(error)
        asked = len(scene.upstream.ledger.requests)

    previous = [record["previous_attempts"] for record in scene.app.records()[:3]]
    table("client's and gateway's retries together", "UNAVAILABLE, at most 3 x 3 requests, attempts [0, 1, 2] in the books",
          f"{failure.code.name}, {asked} requests, attempts {previous} in the books",
          holds=(failure.code, previous) == (grpc.StatusCode.UNAVAILABLE, [0, 1, 2]) and asked <= 9)  # fmt: skip
