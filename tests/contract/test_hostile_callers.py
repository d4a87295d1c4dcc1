"""Callers and providers that send what nobody should: the code of the table, and the service serves on.

Every test ends with a call that works and with no slot taken: `still_serving`.
"""

import random
import struct
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio

from support.app import CANARY_KEY, collect, failing, failure_of, request, running_app
from support.http2_peer import DATA, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, http2_peer, status_in
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, Stall, chunk, json_answer, sse, sse_head
from support.waiting import eventually

SERVICE = "/togetherchat.v1.ChatService"
METHODS = ("Complete", "StreamComplete", "ListModels")
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
FOREIGN_REASONS = {"INVALID_REQUEST", "REQUEST_TOO_LARGE"}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
WHOLE = {"id": "oid-1", "created": 1, "model": "m", "choices": [CHOICE]}
CHUNK = (
    '{"id":"oid-1","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hi"},'
    '"finish_reason":"stop"}]}'
)
ODD_VALUES = {
    "bad utf-8": "\xff\xfe",
    "utf-8 of a lone surrogate": "\xed\xa0\x80",
    "control characters": "a\x01b\x1f",
    "delete": "a\x7fb",
    "latin": "caf\xe9",
    "too long": "x" * 5000,
    "empty": "",
}


def answering(headers=None):
    """An upstream that answers whole calls and streams alike."""

    def script(asked):
        if b'"stream":true' in asked.body.replace(b" ", b""):
            _, *rest = sse([CHUNK, "[DONE]"])
            return (Send(sse_head(200, headers)), *rest)
        return json_answer(200, WHOLE, headers)

    return script


@asynccontextmanager
async def still_serving(script=None, **settings):
    """A service and its upstream; at the end a normal call must work and every slot be back."""
    async with (
        ScriptedUpstream(script or answering()) as upstream,
        running_app(upstream.base_url, **settings) as app,
    ):
        yield app, upstream
        upstream.script = answering()
        await eventually(lambda: app.admission.in_flight == 0)
        answer = await app.chat.Complete(
            request(), metadata=[("authorization", f"Bearer {CANARY_KEY}")], timeout=10
        )
        assert "Hi" == answer.choices[0].message.content[0].text
        await eventually(lambda: app.admission.in_flight == 0)


async def outcome(app, method, message):
    """How one raw message was answered: None where it was taken for a valid one."""
    call = app.channel.unary_stream(f"{SERVICE}/{method}")(message)
    _, failure = await collect(call)
    return failure


def nested(depth):
    """Groups of an unknown field, one in another."""
    return b"\x9b\x06" * depth + b"\x9c\x06" * depth


def wrong_types():
    """Every field number of the request with every wire type and a value of it."""
    values = {0: b"\x01", 1: bytes(8), 2: b"\x01\xff", 5: bytes(4), 6: b"", 7: b""}
    for number in range(1, 30):
        for kind, value in values.items():
            tag = number << 3 | kind
            yield (bytes((tag,)) if tag < 128 else bytes((tag & 127 | 128, tag >> 7))) + value


def mutations(message, chance):
    """Truncated, flipped, doubled and shuffled forms of a good message, and plain noise."""
    for length in range(0, len(message), 7):
        yield message[:length]
    for _ in range(60):
        damaged = bytearray(message)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        yield bytes(damaged)
    for _ in range(60):
        yield chance.randbytes(chance.randint(1, 200))


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_request_get_a_status_of_the_table(method):
    """Noise, cut and damaged messages, wrong wire types: taken for a message or INVALID_ARGUMENT."""
    good = request("Hello, wörld", temperature=0.5, stop=["a"], logit_bias={"1": 2.0}).SerializeToString()
    chance = random.Random(20260601)
    async with still_serving() as (app, _):
        for message in (*mutations(good, chance), *wrong_types(), nested(99), nested(20_000)):
            failure = await outcome(app, method, message)
            if failure is not None:
                assert grpc.StatusCode.INVALID_ARGUMENT is failure.code, message
                assert failure.info.reason in FOREIGN_REASONS, message


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "message",
    [b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", b"\x0a\x03\xed\xa0\x80", nested(20_000)],
    ids=["a length beyond the end", "bad utf-8", "a lone surrogate", "deep nesting"],
)
async def test_a_message_that_cannot_be_parsed_is_invalid(method, message):
    """The first field is a string in both requests but one: what is no message is INVALID_REQUEST."""
    if method == "ListModels":
        message = message.replace(b"\x0a", b"\x12", 1)
    async with still_serving() as (app, _):
        failure = await outcome(app, method, message)

    assert INVALID == (failure.code, failure.info.reason)


@pytest.mark.parametrize(
    "offered",
    [b"caf\xc3\xa9", b"\xff\xfe", b"a\x01b", b"a\x7fb", b"a b", b"x" * 129, b"", b"a, b"],
    ids=["utf-8", "bad utf-8", "control", "delete", "space", "too long", "empty", "a list"],
)
async def test_an_odd_request_id_is_replaced(offered):
    """Sent back it would turn the status into INTERNAL; the call is answered under an id of ours."""
    async with still_serving() as (app, _), http2_peer(app.addresses.grpc) as peer:
        peer.call(1, f"{SERVICE}/Complete", request().SerializeToString(), [("x-request-id", offered)])
        end = await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)

    assert 0 == status_in(end)
    assert not offered or offered not in end.payload


async def test_a_request_id_sent_twice_is_replaced():
    """Two values are none."""
    async with still_serving() as (app, upstream):
        call = app.chat.Complete(request(), metadata=[("x-request-id", "one"), ("x-request-id", "two")])
        await call

    trailers = dict(await call.trailing_metadata())
    assert trailers["x-request-id"] not in {"one", "two", "one, two"}
    assert trailers["x-request-id"] == upstream.ledger.requests[0].headers["x-request-id"]


async def test_authorization_sent_twice_is_refused():
    """Which of two keys pays is nobody's guess."""
    keys = [("authorization", "Bearer one"), ("authorization", "Bearer two")]
    async with still_serving(key=None, upstream_credentials="caller") as (app, upstream):
        failure = await failing(app.chat.Complete(request(), metadata=keys))
        asked = len(upstream.ledger.requests)

    assert (grpc.StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS") == (failure.code, failure.info.reason)
    assert 0 == asked


@pytest.mark.parametrize(
    "offered",
    [b"Bearer canary\xff\xfe", b"Bearer canary\x01", b"Bearer canary\xc3\xa9", b"Bearer canary key"],
)
async def test_an_odd_key_is_refused_and_shown_nowhere(offered, capfd):
    """A key with a character that no header may carry is refused before anything is read."""
    async with still_serving(key=None, upstream_credentials="caller") as (app, upstream):
        async with http2_peer(app.addresses.grpc) as peer:
            peer.call(1, f"{SERVICE}/Complete", request().SerializeToString(), [("authorization", offered)])
            end = await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)
        asked = len(upstream.ledger.requests)

    assert grpc.StatusCode.UNAUTHENTICATED.value[0] == status_in(end)
    assert 0 == asked
    assert "canary" not in app.log.getvalue()


async def test_binary_metadata_is_no_harm():
    """A value that is bytes in place of text is not looked at."""
    odd = [("x-request-id-bin", b"\x00\xff"), ("authorization-bin", b"\xff"), ("whatever-bin", bytes(1000))]
    async with still_serving() as (app, _):
        answer = await app.chat.Complete(request(), metadata=odd)

    assert "oid-1" == answer.id


async def test_huge_metadata_is_refused():
    """gRPC itself refuses headers above its limit; the service never sees the call."""
    async with still_serving() as (app, upstream):
        failure = await failing(app.chat.Complete(request(), metadata=[("x-much", "x" * 100_000)]))
        asked = len(upstream.ledger.requests)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
    assert 0 == asked


@pytest.mark.parametrize(
    "name", ["x-request-id", "x-together-traceid", "x-ratelimit-limit", "x-ratelimit-reset"]
)
@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
async def test_an_odd_header_of_the_provider_is_no_trailer(name, value):
    """One illegal character in a trailer would make any ending INTERNAL: the trailer is left out."""
    async with still_serving(answering({name: value})) as (app, upstream):
        whole = app.chat.Complete(request())
        stream = app.chat.StreamComplete(request())
        await whole
        events, failure = await collect(stream)
        upstream.script = always(
            json_answer(429, {"error": {"message": "slow down", "type": "x"}}, {name: value})
        )
        refused = await failing(app.chat.Complete(request()))

    assert (grpc.StatusCode.OK, None) == (await whole.code(), failure)
    assert events[-1].HasField("completed")
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED") == (refused.code, refused.info.reason)
    for call in (whole, stream):
        assert value not in dict(await call.trailing_metadata()).values()
        assert "together" == dict(await call.trailing_metadata())["x-upstream"]
    assert value not in refused.trailers.values()


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "caf\xe9 \xff\xfe", "type": "\xff"}}',
        b'{"error": {"message": "lone \\ud800 surrogate", "type": "\\udfff", "code": "\\ud800"}}',
        b'{"error": {"message": "a\\u0000b\\u001b[31m\\u202e", "type": "\\u0001"}}',
        b"\xff\xfe\x00" * 100,
        b"\x00" * 300,
    ],
    ids=["bad utf-8", "lone surrogates", "control characters", "noise", "zeros"],
)
async def test_an_odd_error_body_keeps_its_row(body):
    """Whatever an error body holds, its status is that of the table and its text can be sent."""
    script = always((Send(b"HTTP/1.1 503 no\r\nContent-Type: application/json\r\n"),
                     Send(b"Content-Length: %d\r\n\r\n" % len(body) + body)))  # fmt: skip
    async with still_serving(script) as (app, _):
        whole = await failing(app.chat.Complete(request()))
        _, stream = await collect(app.chat.StreamComplete(request()))

    for failure in (whole, stream):
        assert (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_OVERLOADED") == (failure.code, failure.info.reason)
        assert all(character.isprintable() for character in failure.message)


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"a\\udc00b", b"\\u0000\\u0001"],
    ids=["bad utf-8", "bytes of a surrogate", "a lone surrogate", "another", "control characters"],
)  # fmt: skip
async def test_odd_text_in_an_answer_is_text_or_a_malformed_answer(text):
    """What the model said is passed on where it is text; else the answer is malformed."""
    choice = b'{"index":0,"message":{"role":"assistant","content":"' + text + b'"},"finish_reason":"stop"}'
    whole = b'{"id":"oid-1","created":1,"model":"m","choices":[' + choice + b"]}"
    event = whole.replace(b'"message"', b'"delta"')

    def script(asked):
        if b'"stream":true' in asked.body.replace(b" ", b""):
            return sse([event, "[DONE]"])
        head = b"HTTP/1.1 200 ok\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole)
        return (Send(head + whole),)

    async with still_serving(script) as (app, _):
        seen = [await outcome(app, method, request().SerializeToString()) for method in METHODS[:2]]

    for failure in seen:
        assert failure is None or "UPSTREAM_MALFORMED_RESPONSE" == failure.info.reason
    assert (seen[0] is None) == (seen[1] is None)


async def test_a_caller_that_never_sends_its_message_loses_its_slot():
    """Headers alone take a place; without a message it is given back after a while."""
    async with (
        still_serving(max_concurrent_calls=1, request_read_timeout_s=0.2) as (app, _),
        http2_peer(app.addresses.grpc) as peer,
    ):
        peer.open(1, f"{SERVICE}/Complete")
        await eventually(lambda: app.admission.in_flight == 1)
        await eventually(lambda: app.admission.in_flight == 0)

    assert ("CANCELLED", "CALLER_STALLED") in [(one["code"], one.get("reason")) for one in app.records()]


@pytest.mark.parametrize("method", METHODS)
async def test_a_caller_that_takes_no_answer_loses_its_slot(method):
    """With its window at zero an answer cannot leave: the place is given back after a while."""
    async with (
        still_serving(max_concurrent_calls=1, write_timeout_s=0.2) as (app, _),
        http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        peer.call(1, f"{SERVICE}/{method}", request().SerializeToString() if method != "ListModels" else b"")
        await peer.seen(lambda frame: frame.kind == HEADERS and frame.stream == 1)
        await eventually(lambda: app.admission.in_flight == 0)

        assert not [frame for frame in peer.frames if frame.kind == DATA]


async def test_the_time_to_send_a_request_is_not_the_time_to_answer_it():
    """The limit on the way in ends when the request is there, and a slow answer is not cut by it."""
    script = always((Pause(0.5), *json_answer(200, WHOLE)))
    async with still_serving(script, request_read_timeout_s=0.2, write_timeout_s=0.2) as (app, _):
        assert "oid-1" == (await app.chat.Complete(request())).id


@pytest.mark.parametrize("method", METHODS[:2])
async def test_callers_that_leave_at_every_moment_leave_nothing_behind(method):
    """Gone before the message, with it, before the answer, after it: every slot comes back."""
    message = request().SerializeToString()
    async with still_serving(always((Stall(),)), max_concurrent_calls=1000) as (app, upstream):
        for leave in ("opened", "half a message", "asked", "reset"):
            for _ in range(5):
                async with http2_peer(app.addresses.grpc) as peer:
                    peer.open(1, f"{SERVICE}/{method}")
                    if leave == "half a message":
                        peer.send(DATA, stream=1, payload=struct.pack("!BI", 0, len(message)) + message[:10])
                    if leave in {"asked", "reset"}:
                        before = len(upstream.ledger.requests)
                        peer.message(1, message)
                        await upstream.asked(before + 1)
                    if leave == "reset":
                        peer.reset(1)
                    await peer.flush()
        await eventually(lambda: app.admission.in_flight == 0)
        for number in range(len(upstream.ledger.connections)):
            await upstream.closed(number)


async def test_a_rapid_reset_leaves_nothing_behind():
    """Thousands of calls, each taken back at once: the service answers others and every slot comes back."""
    async with still_serving() as (app, _):
        for _ in range(3):
            async with http2_peer(app.addresses.grpc) as peer:
                for number in range(1000):
                    stream = 2 * number + 1
                    peer.call(stream, f"{SERVICE}/Complete", request().SerializeToString())
                    peer.reset(stream)
                await peer.flush()
                meanwhile = await app.chat.Complete(request(), timeout=30)

                assert "oid-1" == meanwhile.id


async def test_every_call_that_ran_has_one_record():
    """Each ending is written once, with the code that the caller saw."""
    async with still_serving() as (app, _):
        codes = []
        for message in (request().SerializeToString(), b"\xff", request(model="").SerializeToString()):
            try:
                await app.channel.unary_unary(f"{SERVICE}/Complete")(message)
                codes.append("OK")
            except aio.AioRpcError as error:
                codes.append(failure_of(error).code.name)

    assert ["OK", "INVALID_ARGUMENT", "INVALID_ARGUMENT"] == codes
    assert [*codes, "OK"] == [record["code"] for record in app.records()]


async def test_a_stream_that_holds_bad_bytes_in_the_middle_ends_as_malformed():
    """What came before stands; the bad event is an end of the table."""
    good = CHUNK.replace('"stop"', "null").encode()
    steps = (
        Send(sse_head()),
        Send(chunk(b"data: " + good + b"\n\n")),
        Send(chunk(b"data: \xff\xfe\n\n")),
        Stall(),
    )
    async with still_serving(always(steps)) as (app, _):
        events, failure = await collect(app.chat.StreamComplete(request()))

    assert "Hi" == "".join(event.delta.text for event in events)
    assert "UPSTREAM_MALFORMED_RESPONSE" == failure.info.reason
