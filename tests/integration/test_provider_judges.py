"""Values that the provider may accept reach it, over both frontends, streamed and whole."""

import json

import pytest

from support import openai
from support.app import request, running_app
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_response, sse
from togetherchat.v1 import chat_pb2 as chat

WHOLE = json_response(200, openai.completion())
STREAMED = sse([openai.chunk("Hi", finish_reason="stop"), openai.DONE])
PICTURE = "https://example.org/cat.png"
PICTURE_PART = {"type": "image_url", "image_url": {"url": PICTURE}}
IMAGE = chat.ContentPart(image=chat.Image(url=PICTURE))
DEEP = {"x": 1}
for _ in range(63):
    DEEP = {"properties": {"x": DEEP}}

MEMBERS = {
    "top_k": {"top_k": 0},
    "an empty stop": {"stop": [""]},
    "many tools": {"tools": [{"type": "function", "function": {"name": f"a.b c{n}"}} for n in range(1024)]},
    "a deep schema": {"tools": [{"type": "function", "function": {"name": "f", "parameters": DEEP}}]},
    "a large seed": {"seed": 2**64 - 1},
    "a picture in a tool message": {
        "messages": [{"role": "tool", "content": [PICTURE_PART], "tool_call_id": "c"}]
    },
    "a picture in a system message": {"messages": [{"role": "system", "content": [PICTURE_PART]}]},
    "a result without an id": {"messages": [{"role": "tool", "content": "7"}]},
    "no content": {"messages": [{"role": "user", "content": ""}]},
}
FIELDS = {
    "top_k": {"top_k": 0},
    "an empty stop": {"stop": [""]},
    "many tools": {"tools": [chat.Tool(function=chat.FunctionTool(name=f"a.b c{n}")) for n in range(1024)]},
    "a deep schema": {
        "tools": [chat.Tool(function=chat.FunctionTool(name="f", parameters_json=json.dumps(DEEP)))]
    },
    "a large seed": {"seed": 2**64 - 1},
    "a picture in a tool message": {
        "messages": [chat.Message(role=chat.ROLE_TOOL, content=[IMAGE], tool_call_id="c")]
    },
    "a picture in a system message": {"messages": [chat.Message(role=chat.ROLE_SYSTEM, content=[IMAGE])]},
    "a result without an id": {
        "messages": [chat.Message(role=chat.ROLE_TOOL, content=[chat.ContentPart(text="7")])]
    },
    "no content": {"messages": [chat.Message(role=chat.ROLE_USER)]},
}


def sent(upstream):
    """The body that the provider received."""
    (received,) = upstream.request_log.requests
    return json.loads(received.body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", MEMBERS)
async def test_the_provider_receives_what_it_may_accept_over_http(case, stream):
    """The body is the caller's."""
    async with (
        ScriptedUpstream(always(STREAMED if stream else WHOLE)) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(stream=stream, **MEMBERS[case])

    assert 200 == response.status_code, response.text
    assert MEMBERS[case] == {name: sent(upstream)[name] for name in MEMBERS[case]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", FIELDS)
async def test_the_provider_receives_what_it_may_accept_over_grpc(case, stream):
    """The body is the same as over HTTP."""
    asked = request(**{name: value for name, value in FIELDS[case].items() if name != "messages"})
    if "messages" in FIELDS[case]:
        del asked.messages[:]
        asked.messages.extend(FIELDS[case]["messages"])
    async with (
        ScriptedUpstream(always(STREAMED if stream else WHOLE)) as upstream,
        running_app(upstream.base_url) as app,
    ):
        if stream:
            events = [event async for event in app.chat.StreamComplete(asked)]
            assert events[-1].HasField("completed")
        else:
            await app.chat.Complete(asked)

    assert MEMBERS[case] == {name: sent(upstream)[name] for name in MEMBERS[case]}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"max_tokens": 4096.0}, {"max_tokens": 4096}),
        ({"stop": ""}, {"stop": [""]}),
        ({"top_logprobs": 0, "logprobs": False}, {}),
        ({"seed": 1.592476422325145e19}, {"seed": 15924764223251450000}),
        ({"messages": [{"role": "user", "content": None}]}, {"messages": [{"role": "user", "content": ""}]}),
    ],
)
async def test_other_spellings_of_json_are_translated(members, expected):
    """They mean one value of the contract each."""
    async with ScriptedUpstream(always(WHOLE)) as upstream, running_http(upstream.base_url) as service:
        response = await service.complete(**members)

    assert 200 == response.status_code, response.text
    body = sent(upstream)
    assert {"model", "messages", *expected} == set(body)
    assert expected == {name: body[name] for name in expected}
