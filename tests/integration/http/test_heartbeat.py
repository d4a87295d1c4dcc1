"""`--http-heartbeat-s`: a stream that is silent sends comments, before its first event and after it."""

import asyncio
import json

import pytest

from support import openai
from support.http_client import events_of, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import AwaitClose, Pause, Send, json_response, paused_sse, sse, sse_head

COMMENT = b": keep-alive\n\n"
HEARTBEAT_S = 0.02
STREAM = request_body(stream=True)


async def read_until(caller, part):
    """What a caller receives up to this part."""
    return await caller.reader.readuntil(part)


def text_of(chunked):
    """The body of a response in chunked coding."""
    body = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        length = int(size, 16)
        body, chunked = body + rest[:length], rest[length + 2 :]
    return body.decode()


@pytest.mark.parametrize("head_sent", [False, True])
async def test_a_silent_provider_does_not_make_the_stream_silent(head_sent):
    """The status and comments come before the provider's first event, and between two events."""
    first, second = asyncio.Event(), asyncio.Event()
    opening = (Send(sse_head()),) if head_sent else ()
    rest = paused_sse(second)
    if head_sent:
        rest = (Send(rest[0].data.partition(b"\r\n\r\n")[2]), *rest[1:])
    script = (*opening, Pause(first), *rest)
    async with (
        ScriptedUpstream(always(script)) as upstream,
        running_http(upstream.base_url, http_heartbeat_s=HEARTBEAT_S) as service,
        raw_caller(service.address) as caller,
    ):
        await caller.post(STREAM, "connection: close")
        top = await caller.read_head()
        received = await read_until(caller, COMMENT) + await read_until(caller, COMMENT)
        first.set()
        received += await read_until(caller, b"Hi ")
        received += await read_until(caller, COMMENT) + await read_until(caller, COMMENT)
        second.set()
        received += await caller.read_to_end()

    assert top.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/event-stream" in top
    assert b"x-request-id: " in top
    *chunks, done = events_of(text_of(received))
    assert ("Hi there", "[DONE]") == (
        "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks),
        done,
    )
    (record,) = service.records()
    assert "OK" == record["code"]


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, "service_key_rejected", "SERVICE_KEY_REJECTED"),
        (429, "rate_limit_exceeded", "RATE_LIMITED"),
        (500, "upstream_internal", "UPSTREAM_INTERNAL"),
    ],
)
async def test_a_failure_after_a_comment_is_an_event(status, code, reason):
    """The status was sent, so the error is the last event; without a comment it has its own status."""
    released = asyncio.Event()
    failure = (Pause(released), *json_response(status, openai.error("No.")))
    async with (
        ScriptedUpstream(always(failure)) as upstream,
        running_http(upstream.base_url, http_heartbeat_s=HEARTBEAT_S) as service,
        raw_caller(service.address) as caller,
    ):
        await caller.post(STREAM, "connection: close")
        top = await caller.read_head()
        received = await read_until(caller, COMMENT)
        released.set()
        received += await caller.read_to_end()
        (record,) = await service.recorded()

    assert top.startswith(b"HTTP/1.1 200 ")
    (event,) = events_of(text_of(received))
    assert (code, reason) == (event["error"]["code"], record["reason"])


@pytest.mark.parametrize("heartbeat", ["off", 3600])
async def test_a_failure_before_the_first_comment_has_its_status(heartbeat):
    """Off is the default."""
    async with (
        ScriptedUpstream(always(json_response(429, openai.error("No.")))) as upstream,
        running_http(upstream.base_url, http_heartbeat_s=heartbeat) as service,
    ):
        response = await service.complete(stream=True)

    assert 429 == response.status_code


async def test_a_comment_of_the_provider_before_its_first_event_sends_nothing():
    """It does not send the status, so a failure after it keeps its own; its text is never passed on."""
    comments = Send(sse_head() + b"e\r\n: PROCESSING\n\n\r\n")
    stream = sse([openai.chunk("Hi", finish_reason="stop"), openai.DONE])
    first, *rest = stream
    body = Send(first.data.partition(b"\r\n\r\n")[2])
    async with (
        ScriptedUpstream(always((comments, body, *rest))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(stream=True)

    assert response.text.startswith("data: ")
    assert "PROCESSING" not in response.text
    assert "[DONE]" == events_of(response.text)[-1]


async def test_a_caller_that_leaves_after_a_comment_releases_the_provider():
    """Within 250 ms, as at any other time."""
    async with (
        ScriptedUpstream(always((AwaitClose(),))) as upstream,
        running_http(upstream.base_url, http_heartbeat_s=HEARTBEAT_S) as service,
        raw_caller(service.address) as caller,
    ):
        await caller.post(STREAM)
        await caller.read_head()
        await read_until(caller, COMMENT)
        caller.close()
        await upstream.closed(0)
        (record,) = await service.recorded()

    assert "CALLER_CANCELLED" == record["reason"]


async def test_a_drain_ends_a_stream_that_only_had_comments():
    """Its last event is the error, and nothing follows."""
    async with (
        ScriptedUpstream(always((AwaitClose(),))) as upstream,
        running_http(upstream.base_url, http_heartbeat_s=HEARTBEAT_S, drain_timeout_s=0) as service,
        raw_caller(service.address) as caller,
    ):
        await caller.post(STREAM)
        await caller.read_head()
        await read_until(caller, COMMENT)
        stopping = asyncio.ensure_future(service.app.app.stop())
        received = await caller.read_to_end()
        await stopping

    last = received[received.index(b"data: ") :].split(b"\n\n")[0]
    assert "draining" == json.loads(last.removeprefix(b"data: "))["error"]["code"]


async def test_a_whole_completion_has_no_comments():
    """JSON has none."""
    released = asyncio.Event()
    answer = (Pause(released), *json_response(200, openai.completion("Hello")))
    async with (
        ScriptedUpstream(always(answer)) as upstream,
        running_http(upstream.base_url, http_heartbeat_s=HEARTBEAT_S) as service,
    ):
        completing = asyncio.ensure_future(service.complete())
        await upstream.received()
        released.set()
        response = await completing

    assert "Hello" == response.json()["choices"][0]["message"]["content"]
