"""OpenAI's function calling of 2023 over HTTP: `functions` in the request, `function_call` in the response."""

import json

import pytest

from support import openai
from support.http_client import request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_response, sse

WEATHER = {"name": "weather", "description": "Weather of a city", "parameters": {"type": "object"}}
ARGUMENTS = '{"city":"Oslo"}'
CALL = {"name": "weather", "arguments": ARGUMENTS}
TOOL_CALLS = [openai.tool_call("weather", ARGUMENTS), openai.tool_call("other", index=1, call_id="call_2")]


def answered(message, finish_reason):
    choice = openai.choice({"role": "assistant", "content": None, **message}, finish_reason=finish_reason)
    return json_response(200, openai.completion(choices=[choice]))


@pytest.mark.parametrize(
    ("message", "finish_reason"),
    [({"tool_calls": TOOL_CALLS}, "tool_calls"), ({"function_call": CALL}, "function_call")],
    ids=["tool-calls", "function-call"],
)
async def test_a_request_with_functions_receives_a_function_call(message, finish_reason):
    """The provider receives tools. Of several calls the response has the first."""
    async with (
        ScriptedUpstream(always(answered(message, finish_reason))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(functions=[WEATHER], function_call="auto")

    (choice,) = response.json()["choices"]
    assert {"role": "assistant", "content": None, "refusal": None, "function_call": CALL} == choice["message"]
    assert "function_call" == choice["finish_reason"]
    (sent,) = upstream.request_log.requests
    expected = {"tools": [{"type": "function", "function": WEATHER}], "tool_choice": "auto"}
    assert request_body(**expected, parallel_tool_calls=False) == json.loads(sent.body)


async def test_a_stream_with_functions_has_fragments_of_a_function_call():
    """The name comes first, then the arguments, which the client concatenates."""
    opened = {"role": "assistant", "tool_calls": [openai.tool_call("weather", '{"city":')]}
    script = sse(
        [
            openai.chunk(delta=opened),
            openai.chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]}),
            openai.chunk(delta={"tool_calls": TOOL_CALLS[1:]}),
            openai.chunk(delta={}, finish_reason="tool_calls"),
            openai.DONE,
        ]
    )
    async with ScriptedUpstream(always(script)) as upstream, running_http(upstream.base_url) as service:
        *chunks, done = await service.events(functions=[WEATHER])

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert "[DONE]" == done
    assert not any("tool_calls" in delta for delta in deltas)
    assert ["weather"] == [call["name"] for call in calls if "name" in call]
    assert ARGUMENTS == "".join(call["arguments"] for call in calls)
    assert "function_call" == chunks[-1]["choices"][0]["finish_reason"]


async def test_the_result_of_a_function_is_sent_as_that_of_its_call():
    """The messages of 2023 have no ids; those that the provider receives have the same one."""
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": None, "function_call": CALL},
        {"role": "function", "name": "weather", "content": "rain"},
    ]
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion("Rain.")))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(messages=messages, functions=[WEATHER], function_call="none")

    assert "Rain." == response.json()["choices"][0]["message"]["content"]
    body = json.loads(upstream.request_log.requests[0].body)
    _, assistant, result = body["messages"]
    assert CALL == assistant["tool_calls"][0]["function"]
    assert ("tool", assistant["tool_calls"][0]["id"]) == (result["role"], result["tool_call_id"])
    assert "none" == body["tool_choice"]


async def test_a_message_with_both_formats_has_each_call_once():
    """`tool_calls` wins, and the header names the other member."""
    message = {
        "role": "assistant",
        "function_call": CALL,
        "tool_calls": [openai.tool_call("weather", ARGUMENTS)],
    }
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(messages=[message, {"role": "user", "content": "And?"}])

    assert "messages[].function_call" == response.headers["x-togetherchat-ignored"]
    assert 1 == len(json.loads(upstream.request_log.requests[0].body)["messages"][0]["tool_calls"])
