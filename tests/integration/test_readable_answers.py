"""Answers of other engines that can be read without guessing: streamed, whole and folded, over gRPC and HTTP."""

import gzip
import json

import pytest

from support import openai
from support.app import collect, failing, request, running_app
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pieces, Send, chunk, head, http_response, sse

JSON = {"Content-Type": "application/json"}
EVENTS = {"Content-Type": "text/event-stream"}
GZIP = {"Content-Encoding": "gzip"}
TEXT = "Hello there"
ARGUMENTS = '{"city":"Hanoi","n":[1.0,1180591620717411303424]}'
PARTS = [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}]
CALL = {**openai.tool_call("look"), "function": {"name": "look", "arguments": json.loads(ARGUMENTS)}}

WHOLE = openai.dumps(openai.completion(TEXT))
STREAMED = b"".join(map(openai.event, openai.stream("Hello", " there")))


def spoken(content):
    """A completion with this content."""
    return http_response(200, openai.dumps(openai.completion(content)), JSON)


def called(call):
    """A completion with this tool call."""
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return http_response(200, openai.dumps(openai.completion(choices=[openai.choice(message)])), JSON)


def pieces(body, headers):
    """A body that arrives byte by byte."""
    return (Send(head(200, {**headers, "Content-Length": len(body)})), Pieces(body))


WHOLES = {
    "no media type": http_response(200, WHOLE),
    "text": http_response(200, WHOLE, {"Content-Type": "text/plain; charset=utf-8"}),
    "text after a blank line": http_response(200, b"\r\n " + WHOLE, {"Content-Type": "text/plain"}),
    "events": http_response(200, STREAMED, EVENTS),
    "events without a media type": http_response(200, b": hello\n\n" + STREAMED),
    "events called text": http_response(200, STREAMED, {"Content-Type": "text/plain"}),
    "gzip": http_response(200, gzip.compress(WHOLE), {**JSON, **GZIP}),
    "gzip, byte by byte": pieces(gzip.compress(WHOLE), {**JSON, "Content-Encoding": "X-GZIP"}),
    "events in gzip": http_response(200, gzip.compress(STREAMED), {**EVENTS, **GZIP}),
    "parts": spoken(PARTS),
}
STREAMS = {
    "no media type": http_response(200, STREAMED),
    "no media type, byte by byte": pieces(STREAMED, {}),
    "text": http_response(200, STREAMED, {"Content-Type": "text/plain"}),
    "JSON": http_response(200, WHOLE, JSON),
    "JSON without a media type": http_response(200, WHOLE),
    "JSON called text": http_response(200, WHOLE, {"Content-Type": "text/plain"}),
    "gzip": http_response(200, gzip.compress(STREAMED), {**EVENTS, **GZIP}),
    "gzip, byte by byte": pieces(gzip.compress(STREAMED), {**EVENTS, **GZIP}),
    "empty data": http_response(200, b"data:\n\n" + STREAMED.replace(b"\n\n", b"\n\ndata: \n\ndata\n\n"), EVENTS),
    "parts": sse([openai.chunk(PARTS), openai.chunk(finish_reason="stop"), openai.DONE]),
}  # fmt: skip


def joined(events):
    """The text of a stream over gRPC."""
    return "".join(event.delta.text for event in events)


@pytest.mark.parametrize("case", WHOLES)
async def test_a_whole_answer_is_read(case):
    """Over gRPC and HTTP it is the same."""
    async with (
        ScriptedUpstream(always(WHOLES[case])) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.app.chat.Complete(request())
        over_http = (await service.complete()).json()

    assert TEXT == response.choices[0].message.content[0].text
    assert TEXT == over_http["choices"][0]["message"]["content"]
    assert ("oid-1", "stop") == (response.id, response.choices[0].finish_reason_raw)


@pytest.mark.parametrize("case", STREAMS)
async def test_a_streamed_answer_is_read(case):
    """Over gRPC and HTTP it is the same."""
    async with (
        ScriptedUpstream(always(STREAMS[case])) as upstream,
        running_http(upstream.base_url) as service,
    ):
        events, failure = await collect(service.app.chat.StreamComplete(request()))
        *chunks, done = await service.events()

    assert (None, TEXT) == (failure, joined(events))
    over_http = "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)
    assert (TEXT, "[DONE]") == (over_http, done)


@pytest.mark.parametrize("case", STREAMS)
async def test_a_folded_answer_is_read(case):
    """A whole completion that is read as a stream has the same answers."""
    async with (
        ScriptedUpstream(always(STREAMS[case])) as upstream,
        running_http(upstream.base_url, stream_upstream_min_tokens=0) as service,
    ):
        response = await service.app.chat.Complete(request())
        over_http = (await service.complete()).json()

    assert TEXT == response.choices[0].message.content[0].text
    assert TEXT == over_http["choices"][0]["message"]["content"]


@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_that_are_an_object_become_text(stream):
    """The contract and OpenAI's API have text; numbers of any size are kept."""
    delta = {"role": "assistant", "tool_calls": [CALL]}
    streamed = sse([openai.chunk(delta=delta), openai.chunk(finish_reason="tool_calls"), openai.DONE])
    async with (
        ScriptedUpstream(always(streamed if stream else called(CALL))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        if stream:
            events, failure = await collect(service.app.chat.StreamComplete(request()))
            found = "".join(call.arguments for event in events for call in event.delta.tool_calls)
            assert failure is None
            sent = [
                call["function"]["arguments"]
                for one in (await service.events())[:-1]
                for call in one["choices"][0]["delta"].get("tool_calls", ())
            ]
        else:
            message = (await service.app.chat.Complete(request())).choices[0].message
            found = message.tool_calls[0].function.arguments
            body = (await service.complete()).json()
            sent = [call["function"]["arguments"] for call in body["choices"][0]["message"]["tool_calls"]]

    assert (ARGUMENTS, [ARGUMENTS]) == (found, sent)


REFUSED = sse(
    [
        openai.chunk(delta={"role": "assistant", "content": None, "refusal": "I cannot "}),
        r'{"id":"oid-1","choices":[{"index":0,"delta":{"refusal":"help. \ud83d"}}]}',
        r'{"id":"oid-1","choices":[{"index":0,"delta":{"refusal":"\ude00"}}]}',
        openai.chunk("", finish_reason="stop"),
        openai.DONE,
    ]
)
REFUSAL = "I cannot help. \U0001f600"


async def test_a_streamed_refusal_is_passed_on():
    """Over gRPC and HTTP, joined as text is."""
    async with ScriptedUpstream(always(REFUSED)) as upstream, running_http(upstream.base_url) as service:
        events, failure = await collect(service.app.chat.StreamComplete(request()))
        *chunks, _ = await service.events()

    assert (None, REFUSAL) == (failure, "".join(event.delta.refusal for event in events))
    assert REFUSAL == "".join(one["choices"][0]["delta"].get("refusal", "") for one in chunks)
    assert "" == joined(events)


async def test_a_folded_refusal_is_passed_on():
    """The message is the one that a whole answer has."""
    async with (
        ScriptedUpstream(always(REFUSED)) as upstream,
        running_http(upstream.base_url, stream_upstream_min_tokens=0) as service,
    ):
        message = (await service.app.chat.Complete(request())).choices[0].message
        over_http = (await service.complete()).json()["choices"][0]["message"]

    assert (REFUSAL, 0) == (message.refusal, len(message.content))
    assert (REFUSAL, None) == (over_http["refusal"], over_http["content"])


async def test_a_stream_without_a_media_type_is_not_held_back():
    """Its first event is sent before the provider sends the second."""
    first = openai.event(openai.chunk("Hello"))
    opening = Send(head(200, {"Transfer-Encoding": "chunked"}) + chunk(first))
    async with ScriptedUpstream(always((opening,))) as upstream, running_app(upstream.base_url) as app:
        call = app.chat.StreamComplete(request())
        events = [await call.read(), await call.read()]
        call.cancel()

    assert "Hello" == joined(events)


UNREADABLE = {
    "a page": http_response(200, WHOLE, {"Content-Type": "text/html"}),
    "a page without a media type": http_response(200, b"<html></html>"),
    "nothing": http_response(200, b""),
    "a part that is not text": spoken([{"type": "image_url", "image_url": {"url": "https://h"}}]),
    "text among the parts": spoken(["Hello"]),
    "gzip that is cut": http_response(200, gzip.compress(WHOLE)[:-9], {**JSON, **GZIP}),
    "gzip and more": http_response(200, gzip.compress(WHOLE) + b"x", {**JSON, **GZIP}),
    "another coding": http_response(200, WHOLE, {**JSON, "Content-Encoding": "br"}),
}


@pytest.mark.parametrize("case", UNREADABLE)
@pytest.mark.parametrize("folded", [False, True])
async def test_an_answer_that_would_be_a_guess_is_an_error(case, folded):
    """The caller must not take a page, or half of a completion, for what the model wrote."""
    settings = {"stream_upstream_min_tokens": 0} if folded else {}
    async with (
        ScriptedUpstream(always(UNREADABLE[case])) as upstream,
        running_app(upstream.base_url, **settings) as app,
    ):
        failure = await failing(app.chat.Complete(request()))

    assert failure.info.reason in {"UPSTREAM_MALFORMED_RESPONSE", "UPSTREAM_TRUNCATED"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_accepts_what_its_answer_is(stream):
    """A stream is `text/event-stream`, and some servers check it."""
    async with (
        ScriptedUpstream(always(STREAMS["gzip"] if stream else WHOLES["gzip"])) as upstream,
        running_app(upstream.base_url) as app,
    ):
        if stream:
            await collect(app.chat.StreamComplete(request()))
        else:
            await app.chat.Complete(request())

    (sent,) = upstream.request_log.requests
    assert ("text/event-stream" if stream else "application/json") == sent.headers["accept"]
    assert "identity" == sent.headers["accept-encoding"]
