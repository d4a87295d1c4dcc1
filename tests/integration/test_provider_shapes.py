"""What engines other than Together's send, through the whole service.

Each way is a frontend and a kind of call: whole, streamed, and whole but read from the provider as a stream.
"""

import asyncio
import json
from dataclasses import dataclass

import pytest

from support import openai
from support.app import collect, failing, request
from support.http_client import COMPLETIONS, events_of, request_body, running_http
from support.reference_accumulator import accumulate
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Send, chunk, http_response, json_response, sse, sse_event, sse_head
from togetherchat.v1 import chat_pb2 as chat

HANOI, PARIS = '{"city":"Hanoi"}', '{"city":"Paris"}'
GRIN = "\U0001f600"


@dataclass(frozen=True)
class Way:
    """How a caller calls, and whether the provider is asked for a stream."""

    protocol: str
    streamed: bool
    folded: bool = False

    @property
    def upstream_streams(self):
        return self.streamed or self.folded

    @property
    def settings(self):
        return {"stream_upstream_min_tokens": 0} if self.folded else {}

    def __str__(self):
        return f"{self.protocol} {'streamed' if self.streamed else 'folded' if self.folded else 'whole'}"


WAYS = [Way(protocol, *kind) for protocol in ("grpc", "http") for kind in ((False,), (True,), (False, True))]
ways = pytest.mark.parametrize("way", WAYS, ids=str)


def response_for(way, deltas, *, finish_reason, message=None, **head):
    """A provider's response: a chunk for each delta, or one body with the message."""
    if way.upstream_streams:
        chunks = [openai.chunk(delta=delta) | head for delta in deltas]
        return sse([*chunks, openai.chunk(finish_reason=finish_reason) | head, openai.DONE])
    return json_response(
        200, openai.completion(choices=[openai.choice(message, finish_reason=finish_reason)]) | head
    )


async def completion_of(way, service, **members):
    """The completion in OpenAI's format, however it was called."""
    if way.protocol == "grpc":
        stub = service.app.chat
        if not way.streamed:
            response = await stub.Complete(request(**members))
        else:
            events, failure = await collect(stub.StreamComplete(request(**members)))
            assert failure is None
            response = accumulate(events)
        (choice,) = response.choices
        calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls]
        names = {chat.FINISH_REASON_STOP: "stop", chat.FINISH_REASON_TOOL_CALLS: "tool_calls"}
        return {
            "id": response.id,
            "created": response.create_time.seconds,
            "content": "".join(part.text for part in choice.message.content),
            "reasoning": choice.message.reasoning,
            "refusal": choice.message.refusal,
            "calls": calls,
            "finish_reason": names[choice.finish_reason],
        }
    if not way.streamed:
        body = (await service.complete(**members)).json()
        (choice,) = body["choices"]
        message = choice["message"]
        fragments = message.get("tool_calls", ())
    else:
        *chunks, done = await service.events(**members)
        assert "[DONE]" == done
        body = chunks[0]
        choices = [choice for one in chunks for choice in one["choices"]]
        deltas = [choice["delta"] for choice in choices]
        message = {
            name: "".join(delta.get(name) or "" for delta in deltas)
            for name in ("content", "reasoning", "refusal")
        }
        choice = choices[-1]
        fragments = [fragment for delta in deltas for fragment in delta.get("tool_calls", ())]
    return {
        "id": body["id"],
        "created": body["created"],
        "content": message["content"] or "",
        "reasoning": message.get("reasoning", ""),
        "refusal": message["refusal"] or "",
        "calls": joined(fragments),
        "finish_reason": choice["finish_reason"],
    }


def joined(fragments):
    """Fragments of tool calls, joined by index as OpenAI's clients do."""
    calls = {}
    for fragment in fragments:
        call = calls.setdefault(fragment["index"], ["", "", ""])
        call[0] += fragment.get("id") or ""
        call[1] += fragment["function"].get("name") or ""
        call[2] += fragment["function"]["arguments"]
    assert list(range(len(calls))) == sorted(calls)
    return [tuple(call) for _, call in sorted(calls.items())]


async def failure_of_call(way, service, **members):
    """The reason, the message and the param of a call that fails, and the text before it."""
    if way.protocol == "grpc":
        stub, text = service.app.chat, ""
        if way.streamed:
            events, failure = await collect(stub.StreamComplete(request(**members)))
            text = "".join(event.delta.text for event in events)
        else:
            failure = await failing(stub.Complete(request(**members)))
        found = failure.details.get("BadRequest")
        param = found.field_violations[0].field if found else None
        return failure.info.reason, failure.message, param, text
    if way.streamed:
        response, ended = await service.stream(**members)
    else:
        response, ended = await service.complete(**members), True
    if response.status_code == 200:
        assert not ended
        *chunks, last = events_of(response.text)
        assert "[DONE]" != last
        text = "".join(choice["delta"].get("content", "") for one in chunks for choice in one["choices"])
        record, body = (await service.recorded())[-1], last["error"]
        return record["reason"], body["message"], body["param"], text
    body = response.json()["error"]
    return response.headers["x-error-reason"], body["message"], body["param"], ""


def fragment(arguments, *, name=None, **members):
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {**members, "type": "function", "function": function}


SHARED = [
    fragment(HANOI, index=0, id="call_a", name="get_weather"),
    fragment(PARIS, index=0, id="call_b", name="get_weather"),
]


@ways
async def test_parallel_calls_that_share_an_index(way):
    """Both calls arrive, each with its id and its arguments."""
    deltas = [{"tool_calls": [call]} for call in SHARED]
    message = {"role": "assistant", "content": None, "tool_calls": SHARED}
    response = response_for(way, deltas, finish_reason="tool_calls", message=message)
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_http(upstream.base_url, **way.settings) as service,
    ):
        found = await completion_of(way, service)

    assert [("call_a", "get_weather", HANOI), ("call_b", "get_weather", PARIS)] == found["calls"]
    assert "tool_calls" == found["finish_reason"]


NAMELESS = [
    fragment(HANOI, name="get_weather"),
    fragment(PARIS, name="get_weather"),
    fragment("{}", name="now"),
]


@ways
async def test_calls_without_ids_make_a_round_trip(way):
    """Each call gets an id, with which the conversation goes on; the provider receives the same ids."""
    deltas = [{"tool_calls": [call]} for call in NAMELESS]
    message = {"role": "assistant", "content": None, "tool_calls": NAMELESS}
    response = response_for(way, deltas, finish_reason="stop", message=message)
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_http(upstream.base_url, **way.settings) as service,
    ):
        found = await completion_of(way, service)
        ids = [call_id for call_id, _, _ in found["calls"]]
        await continued(way, service, found["calls"])

    assert "tool_calls" == found["finish_reason"]
    assert [HANOI, PARIS, "{}"] == [arguments for _, _, arguments in found["calls"]]
    assert 3 == len({one for one in ids if len(one) == 9 and one.isalnum()})
    user, assistant, *results = json.loads(upstream.request_log.requests[1].body)["messages"]
    assert ("user", ids) == (user["role"], [call["id"] for call in assistant["tool_calls"]])
    assert ids == [result["tool_call_id"] for result in results]


async def continued(way, service, calls):
    """Send a conversation with these calls and their results."""
    if way.protocol == "grpc":
        turn = request()
        turn.messages.add(
            role=chat.ROLE_ASSISTANT,
            tool_calls=[
                chat.ToolCall(id=one, function=chat.FunctionCall(name=name, arguments=arguments))
                for one, name, arguments in calls
            ],
        )
        for one, _, _ in calls:
            turn.messages.add(
                role=chat.ROLE_TOOL, tool_call_id=one, content=[chat.ContentPart(text="7 degrees")]
            )
        await service.app.chat.Complete(turn) if not way.streamed else await collect(
            service.app.chat.StreamComplete(turn)
        )
        return
    asked = request_body()["messages"]
    assistant = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": one, "type": "function", "function": {"name": name, "arguments": arguments}}
            for one, name, arguments in calls
        ],
    }
    results = [{"role": "tool", "tool_call_id": one, "content": "7 degrees"} for one, _, _ in calls]
    answered = await service.complete(messages=[*asked, assistant, *results], stream=way.streamed)
    assert 200 == answered.status_code, answered.text


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_calls_without_ids_from_elsewhere_are_accepted(protocol):
    """A conversation of another gateway, with empty ids and names, reaches the provider with ids."""
    calls = [("", "", "{}"), ("", "now", "{}")]
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        if protocol == "grpc":
            await continued(Way("grpc", streamed=False), service, calls)
        else:
            await continued(Way("http", streamed=False), service, calls)

    _, assistant, *results = json.loads(upstream.request_log.requests[0].body)["messages"]
    ids = [call["id"] for call in assistant["tool_calls"]]
    assert 2 == len(set(ids) - {""})
    assert ids == [result["tool_call_id"] for result in results]


@ways
async def test_a_character_in_two_deltas_is_one_character(way):
    """Content, reasoning, refusal and arguments have the emoji, and not two signs for what cannot be read."""
    deltas = [
        {"reasoning": "r\ud83d"},
        {"reasoning": "\ude00"},
        {"refusal": "No \ud83d"},
        {"refusal": "\ude00"},
        {"content": "Hi \ud83d"},
        {"content": "\ude00!"},
        {"tool_calls": [fragment('{"mood":"\ud83d', index=0, id="a", name="set")]},
        {"tool_calls": [fragment('\ude00"}', index=0)]},
    ]
    whole = [fragment(f'{{"mood":"{GRIN}"}}', index=0, id="a", name="set")]
    message = {
        "role": "assistant",
        "content": f"Hi {GRIN}!",
        "reasoning": f"r{GRIN}",
        "refusal": f"No {GRIN}",
        "tool_calls": whole,
    }
    response = response_for(way, deltas, finish_reason="tool_calls", message=message)
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_http(upstream.base_url, **way.settings) as service,
    ):
        found = await completion_of(way, service)

    assert (f"Hi {GRIN}!", f"r{GRIN}") == (found["content"], found["reasoning"])
    assert f"No {GRIN}" == found["refusal"]
    assert [("a", "set", f'{{"mood":"{GRIN}"}}')] == found["calls"]


def failed(way, error, text=""):
    """A response whose choice fails after a text."""
    choice = {"index": 0, "finish_reason": "error", "error": error}
    if way.upstream_streams:
        first = [openai.chunk(text)] if text else []
        last = {**openai.HEAD, "choices": [{**choice, "delta": {"content": ""}}]}
        return sse([*first, last, openai.DONE])
    return json_response(200, {**openai.HEAD, "choices": [{**choice, "message": {"content": text}}]})


@ways
@pytest.mark.parametrize("text", ["", "Hi"])
async def test_a_failed_choice_fails_the_call(way, text):
    """It is a failure with the right reason, and not a completion; what came before it is kept."""
    response = failed(way, {"code": 502, "message": "Upstream died"}, text)
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_http(upstream.base_url, **way.settings) as service,
    ):
        reason, message, param, received = await failure_of_call(way, service)

    assert ("UPSTREAM_BAD_GATEWAY", None) == (reason, param)
    assert "the provider's gateway received no valid response" == message
    assert (text if way.streamed else "") == received


@ways
async def test_a_failed_choice_names_what_is_wrong_with_the_request(way):
    """The message and the param of a failure that the request caused reach the caller."""
    response = failed(way, {"code": 400, "message": "top_p must be below 1", "param": "top_p"})
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_http(upstream.base_url, **way.settings) as service,
    ):
        reason, message, param, _ = await failure_of_call(way, service)

    assert ("UPSTREAM_INVALID_REQUEST", "top_p") == (reason, param)
    assert "the provider does not accept the request: top_p must be below 1" == message


REJECTIONS = {
    "detail": (
        {"detail": [{"type": "missing", "loc": ["body", "messages", 0, "content"], "msg": "field required"}]},
        "messages[0].content: field required",
        "messages[0].content",
    ),
    "list": ([{"error": {"code": 400, "message": "bad schema"}}], "bad schema", None),
    "errors": ({"errors": [{"message": "no tools"}, {"message": "no seed"}]}, "no tools; no seed", None),
    "param": ({"error": {"message": "too high", "param": "top_p"}}, "too high", "top_p"),
    "text": ("tools are not supported", "tools are not supported", None),
}


@ways
@pytest.mark.parametrize("shape", REJECTIONS)
async def test_the_reason_of_a_rejection_reaches_the_caller(way, shape):
    """Whatever shape the provider's 400 has, the text and the field are not lost."""
    body, message, param = REJECTIONS[shape]
    if isinstance(body, str):
        response = http_response(400, body.encode(), {"Content-Type": "text/plain"})
    else:
        response = json_response(400, body)
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_http(upstream.base_url, **way.settings) as service,
    ):
        found = await failure_of_call(way, service)

    assert (
        "UPSTREAM_INVALID_REQUEST",
        f"the provider does not accept the request: {message}",
        param,
    ) == found[:3]


@ways
async def test_the_head_of_a_stream_may_come_late(way):
    """A first chunk without id and time does not leave the completion without them."""
    empty = {"id": "", "created": 0, "model": "", "choices": []}
    role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    stream = sse([empty, role, openai.chunk("Hi"), openai.chunk(finish_reason="stop"), openai.DONE])
    response = stream if way.upstream_streams else json_response(200, openai.completion("Hi"))
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_http(upstream.base_url, **way.settings) as service,
    ):
        found = await completion_of(way, service)

    assert ("oid-1", 1, "Hi") == (found["id"], found["created"], found["content"])


@ways
async def test_a_completion_without_an_id_has_that_of_the_call(way):
    """The provider received this id as `x-request-id`. No trailer names it as the provider's."""
    message = {"role": "assistant", "content": "Hi"}
    response = response_for(way, [message], finish_reason="stop", message=message, id="")
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_http(upstream.base_url, **way.settings) as service,
    ):
        found = await completion_of(way, service)
        (record,) = await service.recorded()

    (sent,) = upstream.request_log.requests
    assert found["id"] == sent.headers["x-request-id"] == record["id"]
    assert not record.get("upstream_request_id")


async def test_comments_in_the_middle_of_a_stream_reach_an_http_caller():
    """A caller behind a load balancer hears of the provider's work before the next token."""
    begun, released = asyncio.Event(), asyncio.Event()
    script = (
        Send(sse_head() + sse_event(openai.chunk("Hi"))),
        Pause(begun),
        Send(chunk(b": PROCESSING\n\n")),
        Pause(released),
        Send(sse_event(openai.chunk(finish_reason="stop")) + sse_event(openai.DONE) + chunk(b"")),
    )
    async with (
        ScriptedUpstream(always(script)) as upstream,
        running_http(upstream.base_url) as service,
        service.client.stream("POST", COMPLETIONS, json=request_body(stream=True)) as response,
    ):
        received = ""
        async for text in response.aiter_text():
            received += text
            begun.set()
            if ": keep-alive\n\n" in received:
                released.set()

    assert received.index('"Hi"') < received.index(": keep-alive\n\n") < received.index("[DONE]")
    assert "PROCESSING" not in received
    assert 1 == received.count(": keep-alive")


async def test_comments_before_the_first_event_leave_room_for_a_retry():
    """Nothing is sent before the completion begins, so that another attempt is possible."""
    first = (
        Send(sse_head() + chunk(b": PROCESSING\n\n") + sse_event({"error": {"code": 503}}) + chunk(b"")),
    )
    second = sse(openai.stream("Hi"))
    responses = [first, second]
    async with (
        ScriptedUpstream(lambda _request: responses.pop(0)) as upstream,
        running_http(upstream.base_url, max_retries=1) as service,
    ):
        *chunks, done = await service.events()

    assert ("[DONE]", 2) == (done, len(upstream.request_log.requests))
    assert "Hi" == "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)


@pytest.mark.parametrize("folded", [False, True])
async def test_comments_are_no_events_over_grpc(folded):
    """They restart the idle timeout, and send nothing."""
    pauses = [asyncio.Event() for _ in range(3)]
    steps = [step for pause in pauses for step in (Send(chunk(b": PROCESSING\n\n")), Pause(pause))]
    script = (
        Send(sse_head() + sse_event(openai.chunk("Hi"))),
        *steps,
        Send(sse_event(openai.chunk(finish_reason="stop")) + sse_event(openai.DONE) + chunk(b"")),
    )
    for pause in pauses:
        pause.set()
    settings = {"stream_upstream_min_tokens": 0} if folded else {}
    async with (
        ScriptedUpstream(always(script)) as upstream,
        running_http(upstream.base_url, **settings) as service,
    ):
        if folded:
            response = await service.app.chat.Complete(request())
        else:
            events, failure = await collect(service.app.chat.StreamComplete(request()))
            assert failure is None
            assert ["started", "delta", "choice_finished", "completed"] == [
                event.WhichOneof("event") for event in events
            ]
            response = accumulate(events)

    assert "Hi" == response.choices[0].message.content[0].text
