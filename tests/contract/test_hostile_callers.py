"""Callers and providers that send invalid bytes: the status is one of the table, and the service continues.

Every test ends with a call that works and with all permits released: see `still_serving`.
"""

import random
import struct
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio

from support import openai
from support.app import CANARY_KEY, collect, failing, failure_of, request, running_app
from support.http2_peer import DATA, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, http2_peer, status_in
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, Stall, chunk, json_response, sse, sse_event, sse_head
from support.waiting import eventually

SERVICE = "/togetherchat.v1.ChatService"
METHODS = ("Complete", "StreamComplete", "ListModels", "GetModel")
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
REQUEST_REASONS = {"INVALID_REQUEST", "REQUEST_TOO_LARGE"}
ODD_VALUES = {
    "bad utf-8": "\xff\xfe",
    "utf-8 of a lone surrogate": "\xed\xa0\x80",
    "control characters": "a\x01b\x1f",
    "delete": "a\x7fb",
    "latin": "caf\xe9",
    "too long": "x" * 5000,
    "empty": "",
}


def completing(headers=None):
    """Return the script of an upstream that serves unary calls and streams."""

    def script(received):
        if b'"stream":true' in received.body.replace(b" ", b""):
            _, *rest = sse([openai.chunk("Hi", finish_reason="stop"), openai.DONE])
            return (Send(sse_head(200, headers)), *rest)
        return json_response(200, openai.completion(), headers)

    return script


@asynccontextmanager
async def still_serving(script=None, **settings):
    """Run a service and its upstream. At the end, a normal call must work and all permits be released."""
    async with (
        ScriptedUpstream(script or completing()) as upstream,
        running_app(upstream.base_url, **settings) as app,
    ):
        yield app, upstream
        upstream.script = completing()
        await eventually(lambda: app.admission.in_flight == 0)
        response = await app.chat.Complete(
            request(), metadata=[("authorization", f"Bearer {CANARY_KEY}")], timeout=10
        )
        assert "Hi" == response.choices[0].message.content[0].text
        await eventually(lambda: app.admission.in_flight == 0)


async def outcome(app, method, message):
    """Return the failure of one raw message; None if it was accepted as valid."""
    call = app.channel.unary_stream(f"{SERVICE}/{method}")(message)
    _, failure = await collect(call)
    return failure


def nested(depth):
    """Return nested groups of an unknown field."""
    return b"\x9b\x06" * depth + b"\x9c\x06" * depth


def wrong_types():
    """Yield every field number of the request with a value of every wire type."""
    values = {0: b"\x01", 1: bytes(8), 2: b"\x01\xff", 5: bytes(4), 6: b"", 7: b""}
    for number in range(1, 30):
        for kind, value in values.items():
            tag = number << 3 | kind
            yield (bytes((tag,)) if tag < 128 else bytes((tag & 127 | 128, tag >> 7))) + value


def mutations(message, chance):
    """Yield truncated and damaged forms of a valid message, and random bytes."""
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
async def test_invalid_bytes_get_a_status_of_the_table(method):
    """Random bytes, damaged messages and wrong wire types are accepted or INVALID_ARGUMENT.

    GetModel does not find what it takes for an id.
    """
    good = request("Hello, wörld", temperature=0.5, stop=["a"], logit_bias={"1": 2.0}).SerializeToString()
    chance = random.Random(20260601)
    async with still_serving() as (app, _):
        for message in (*mutations(good, chance), *wrong_types(), nested(99), nested(20_000)):
            failure = await outcome(app, method, message)
            if method == "GetModel" and failure is not None and failure.code is grpc.StatusCode.NOT_FOUND:
                continue
            if failure is not None:
                assert grpc.StatusCode.INVALID_ARGUMENT is failure.code, message
                assert failure.info.reason in REQUEST_REASONS, message


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "message",
    [b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", b"\x0a\x03\xed\xa0\x80", nested(20_000)],
    ids=["a length beyond the end", "bad utf-8", "a lone surrogate", "deep nesting"],
)
async def test_an_unparsable_message_is_invalid(method, message):
    """The reason is INVALID_REQUEST. The first field is a string in all requests except one."""
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
async def test_an_invalid_request_id_is_replaced(offered):
    """Sent back, it would turn the status into INTERNAL; the call gets a new id."""
    async with still_serving() as (app, _), http2_peer(app.addresses.grpc) as peer:
        peer.call(1, f"{SERVICE}/Complete", request().SerializeToString(), [("x-request-id", offered)])
        end = await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)

    assert 0 == status_in(end)
    assert not offered or offered not in end.payload


async def test_a_request_id_sent_twice_is_replaced():
    """A duplicate is invalid."""
    async with still_serving() as (app, upstream):
        call = app.chat.Complete(request(), metadata=[("x-request-id", "one"), ("x-request-id", "two")])
        await call

    trailers = dict(await call.trailing_metadata())
    assert trailers["x-request-id"] not in {"one", "two", "one, two"}
    assert trailers["x-request-id"] == upstream.request_log.requests[0].headers["x-request-id"]


async def test_authorization_sent_twice_is_rejected():
    """The service does not choose between two keys."""
    keys = [("authorization", "Bearer one"), ("authorization", "Bearer two")]
    async with still_serving(key=None, upstream_credentials="caller") as (app, upstream):
        failure = await failing(app.chat.Complete(request(), metadata=keys))
        attempts = len(upstream.request_log.requests)

    assert (grpc.StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS") == (failure.code, failure.info.reason)
    assert 0 == attempts


@pytest.mark.parametrize(
    "offered",
    [b"Bearer canary\xff\xfe", b"Bearer canary\x01", b"Bearer canary\xc3\xa9", b"Bearer canary key"],
)
async def test_an_invalid_key_is_rejected_and_never_logged(offered, capfd):
    """A key with a character that is illegal in a header is rejected before the message is read."""
    async with still_serving(key=None, upstream_credentials="caller") as (app, upstream):
        async with http2_peer(app.addresses.grpc) as peer:
            peer.call(1, f"{SERVICE}/Complete", request().SerializeToString(), [("authorization", offered)])
            end = await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)
        attempts = len(upstream.request_log.requests)

    assert grpc.StatusCode.UNAUTHENTICATED.value[0] == status_in(end)
    assert 0 == attempts
    assert "canary" not in app.log.getvalue()


async def test_binary_metadata_is_ignored():
    """Values that are bytes are not read."""
    odd = [("x-request-id-bin", b"\x00\xff"), ("authorization-bin", b"\xff"), ("whatever-bin", bytes(1000))]
    async with still_serving() as (app, _):
        response = await app.chat.Complete(request(), metadata=odd)

    assert "oid-1" == response.id


async def test_huge_metadata_is_rejected():
    """gRPC itself rejects headers above its limit; the service never sees the call."""
    async with still_serving() as (app, upstream):
        failure = await failing(app.chat.Complete(request(), metadata=[("x-much", "x" * 100_000)]))
        attempts = len(upstream.request_log.requests)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
    assert 0 == attempts


@pytest.mark.parametrize(
    "name", ["x-request-id", "x-together-traceid", "x-ratelimit-limit", "x-ratelimit-reset"]
)
@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
async def test_an_invalid_header_of_the_provider_is_not_sent_as_a_trailer(name, value):
    """One illegal character in a trailer would turn any status into INTERNAL."""
    async with still_serving(completing({name: value})) as (app, upstream):
        unary = app.chat.Complete(request())
        stream = app.chat.StreamComplete(request())
        await unary
        events, failure = await collect(stream)
        upstream.script = always(json_response(429, openai.error("slow down", type="x"), {name: value}))
        rejected = await failing(app.chat.Complete(request()))

    assert (grpc.StatusCode.OK, None) == (await unary.code(), failure)
    assert events[-1].HasField("completed")
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED") == (rejected.code, rejected.info.reason)
    for call in (unary, stream):
        assert value not in dict(await call.trailing_metadata()).values()
        assert "together" == dict(await call.trailing_metadata())["x-upstream"]
    assert value not in rejected.trailers.values()


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
async def test_an_invalid_error_body_keeps_its_row(body):
    """For any error body, the status is that of the table and its text is printable."""
    script = always((Send(b"HTTP/1.1 503 no\r\nContent-Type: application/json\r\n"),
                     Send(b"Content-Length: %d\r\n\r\n" % len(body) + body)))  # fmt: skip
    async with still_serving(script) as (app, _):
        unary = await failing(app.chat.Complete(request()))
        _, stream = await collect(app.chat.StreamComplete(request()))

    for failure in (unary, stream):
        assert (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_OVERLOADED") == (failure.code, failure.info.reason)
        assert all(character.isprintable() for character in failure.message)


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"a\\udc00b", b"\\u0000\\u0001"],
    ids=["bad utf-8", "bytes of a surrogate", "a lone surrogate", "another", "control characters"],
)  # fmt: skip
async def test_odd_text_in_a_completion_is_passed_on_or_malformed(text):
    """Valid text is passed on; otherwise the reason is UPSTREAM_MALFORMED_RESPONSE."""
    choice = b'{"index":0,"message":{"role":"assistant","content":"' + text + b'"},"finish_reason":"stop"}'
    body = b'{"id":"oid-1","created":1,"model":"m","choices":[' + choice + b"]}"
    event = body.replace(b'"message"', b'"delta"')

    def script(received):
        if b'"stream":true' in received.body.replace(b" ", b""):
            return sse([event, openai.DONE])
        head = b"HTTP/1.1 200 ok\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        return (Send(head + body),)

    async with still_serving(script) as (app, _):
        failures = [await outcome(app, method, request().SerializeToString()) for method in METHODS[:2]]

    for failure in failures:
        assert failure is None or "UPSTREAM_MALFORMED_RESPONSE" == failure.info.reason
    assert (failures[0] is None) == (failures[1] is None)


async def test_a_call_whose_message_never_arrives_loses_its_permit():
    """Headers alone acquire a permit; it is released after the request read timeout."""
    async with (
        still_serving(max_concurrent_calls=1, request_read_timeout_s=0.2) as (app, _),
        http2_peer(app.addresses.grpc) as peer,
    ):
        peer.open(1, f"{SERVICE}/Complete")
        await eventually(lambda: app.admission.in_flight == 1)
        await eventually(lambda: app.admission.in_flight == 0)

    assert ("CANCELLED", "CALLER_STALLED") in [
        (record["code"], record.get("reason")) for record in app.records()
    ]


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_whose_response_is_not_read_loses_its_permit(method):
    """With the peer's window at zero, the permit is released after the write timeout."""
    messages = {"ListModels": b"", "GetModel": b"\x0a\x13openai/gpt-oss-120b"}
    async with (
        still_serving(max_concurrent_calls=1, write_timeout_s=0.2) as (app, _),
        http2_peer(app.addresses.grpc, {INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        peer.call(1, f"{SERVICE}/{method}", messages.get(method, request().SerializeToString()))
        await peer.seen(lambda frame: frame.kind == HEADERS and frame.stream == 1)
        await eventually(lambda: app.admission.in_flight == 0)

        assert not [frame for frame in peer.frames if frame.kind == DATA]


async def test_the_request_read_timeout_does_not_bound_the_response():
    """The timeout ends when the request has been received."""
    script = always((Pause(0.5), *json_response(200, openai.completion())))
    async with still_serving(script, request_read_timeout_s=0.2, write_timeout_s=0.2) as (app, _):
        assert "oid-1" == (await app.chat.Complete(request())).id


@pytest.mark.parametrize("method", METHODS[:2])
async def test_callers_that_leave_at_any_time_release_everything(method):
    """They leave before, within and after the message; every permit is released."""
    message = request().SerializeToString()
    async with still_serving(always((Stall(),)), max_concurrent_calls=1000) as (app, upstream):
        for leave in ("opened", "half a message", "asked", "reset"):
            for _ in range(5):
                async with http2_peer(app.addresses.grpc) as peer:
                    peer.open(1, f"{SERVICE}/{method}")
                    if leave == "half a message":
                        peer.send(DATA, stream=1, payload=struct.pack("!BI", 0, len(message)) + message[:10])
                    if leave in {"asked", "reset"}:
                        before = len(upstream.request_log.requests)
                        peer.message(1, message)
                        await upstream.received(before + 1)
                    if leave == "reset":
                        peer.reset(1)
                    await peer.flush()
        await eventually(lambda: app.admission.in_flight == 0)
        for number in range(len(upstream.request_log.connections)):
            await upstream.closed(number)


async def test_a_rapid_reset_releases_everything():
    """Thousands of calls are reset at once: others are served, and every permit is released."""
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


async def test_every_call_has_one_record():
    """The record has the code that the caller received."""
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


async def test_a_stream_with_invalid_bytes_ends_as_malformed():
    """The events before the invalid one are kept."""
    steps = (
        Send(sse_head()),
        Send(sse_event(openai.chunk("Hi"))),
        Send(chunk(b"data: \xff\xfe\n\n")),
        Stall(),
    )
    async with still_serving(always(steps)) as (app, _):
        events, failure = await collect(app.chat.StreamComplete(request()))

    assert "Hi" == "".join(event.delta.text for event in events)
    assert "UPSTREAM_MALFORMED_RESPONSE" == failure.info.reason


@pytest.mark.parametrize("method", ["Complete", "StreamComplete", "ListModels", "GetModel"])
async def test_a_call_without_a_message_is_answered(method):
    """A caller that half-closes the call without a message gets a status at once, and the call is recorded."""
    async with still_serving() as (app, _), http2_peer(app.addresses.grpc) as peer:
        peer.open(1, f"{SERVICE}/{method}")
        peer.send(DATA, flags=END_STREAM, stream=1)
        ended = await peer.seen(lambda frame: frame.kind == HEADERS and frame.flags & END_STREAM)
        await eventually(app.records)
        (record,) = app.records()

    assert grpc.StatusCode.INVALID_ARGUMENT.value[0] == status_in(ended)
    assert ("INVALID_REQUEST", "INVALID_ARGUMENT") == (record["reason"], record["code"])
