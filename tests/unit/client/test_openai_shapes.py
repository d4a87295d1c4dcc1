"""Tests of messages, tools and formats as dictionaries of OpenAI's API."""

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_client import assistant, function_tool, json_schema, system, tool_result, user
from togetherchat_client.requests import complete_request

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def built(messages, **fields):
    return complete_request("m", messages, **fields)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"role": "user", "content": "hi"}, user("hi")),
        ({"role": "system", "content": "Be brief."}, system("Be brief.")),
        ({"role": "assistant", "content": "yes", "refusal": None, "annotations": []}, assistant("yes")),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, user("a", "b")),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}]},
            user(chat.Image(url="https://x/y.png")),
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAE=", "format": "wav"}}]},
            user(chat.Audio(data=b"\x00\x01", format="wav")),
        ),
        (
            {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://x/y.mp4"}}]},
            user(chat.ContentPart(video_url="https://x/y.mp4")),
        ),
        (
            {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "https://x/y.wav"}}]},
            user(chat.ContentPart(audio_url="https://x/y.wav")),
        ),
        ({"role": "tool", "tool_call_id": "call_1", "content": "rain"}, tool_result("call_1", "rain")),
        (
            {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "get", "arguments": '{"a": 1.0}'}}]},
            chat.Message(role=chat.ROLE_ASSISTANT, tool_calls=[chat.ToolCall(id="call_1", function=chat.FunctionCall(name="get", arguments='{"a": 1.0}'))]),
        ),
        (
            {"role": "assistant", "content": "x", "reasoning_content": "hm"},
            chat.Message(role=chat.ROLE_ASSISTANT, content=[chat.ContentPart(text="x")], reasoning="hm", reasoning_field=chat.REASONING_FIELD_REASONING_CONTENT),
        ),
    ],
)  # fmt: skip
def test_a_dictionary_is_the_message_that_a_builder_returns(value, expected):
    """Alone, and in a list with typed messages and strings."""
    assert [expected] == list(built(value).messages)
    assert [user("a"), expected, user("b")] == list(built(["a", value, user("b")]).messages)


def test_tools_a_choice_and_a_format_are_built():
    """As OpenAI documents them, beside a typed tool."""
    tool = {
        "type": "function",
        "function": {"name": "get", "description": "d", "parameters": SCHEMA, "strict": True},
    }
    request = built(
        "hi",
        tools=[tool, function_tool("put")],
        tool_choice={"type": "function", "function": {"name": "get"}},
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    )
    assert [function_tool("get", "d", parameters=SCHEMA, strict=True), function_tool("put")] == list(
        request.tools
    )
    assert "get" == request.tool_choice.function_name
    assert json_schema("a", SCHEMA) == request.response_format


@pytest.mark.parametrize(
    ("choice", "mode"),
    [
        ("auto", chat.TOOL_CHOICE_MODE_AUTO),
        ("none", chat.TOOL_CHOICE_MODE_NONE),
        ("required", chat.TOOL_CHOICE_MODE_REQUIRED),
    ],
)
def test_a_tool_choice_may_be_a_word(choice, mode):
    """The three modes of OpenAI's API."""
    assert mode == built("hi", tool_choice=choice).tool_choice.mode


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"type": "text"}, "text"),
        ({"type": "json_object"}, "json_object"),
        ({"type": "json_object", "schema": SCHEMA}, "json_schema"),
        ({"type": "regex", "pattern": "a+"}, "regex"),
    ],
)
def test_a_response_format_is_built(value, kind):
    """OpenAI's formats and Together's."""
    assert kind == built("hi", response_format=value).response_format.WhichOneof("format")


ROLES = "system, developer, user, assistant, tool"
PARTS = "text, image_url, video_url, audio_url, input_audio"
PART = {"type": "text", "text": "a"}


def turn(**members):
    return {"role": "user", "content": "hi", **members}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([turn(), turn(role="bot")], f"messages[1].role: must be one of {ROLES}"),
        ([{"content": "hi"}], f"messages[0].role: must be one of {ROLES}"),
        ([turn(content=5)], "messages[0].content: must be text or a list of parts, not int"),
        ([turn(), turn(content=[{"type": "image"}])], f"messages[1].content[0].type: must be one of {PARTS}"),
        ([turn(content=["a"])], "messages[0].content[0]: must be a dictionary, not str"),
        ([turn(content=[PART, {"type": "text"}])], "messages[0].content[1].text: is required"),
        ([turn(content=[{"type": "text", "text": 1}])], "messages[0].content[0].text: must be text, not int"),
        ([turn(content=[{"type": "image_url", "image_url": "https://x"}])], "messages[0].content[0].image_url: must be a dictionary, not str"),
        ([turn(content=[{"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}])], "messages[0].content[0].input_audio.data: must be base64"),
        ([turn(contnet="hi")], "messages[0].contnet: is not supported; supported are role, content, name, tool_calls, tool_call_id, reasoning, reasoning_content, refusal"),
        ([turn(tool_calls={"id": "1"})], "messages[0].tool_calls: must be a list, not dict"),
        ([turn(tool_calls=[{"id": "1"}])], "messages[0].tool_calls[0].function: must be a dictionary, not None"),
        ([turn(tool_calls=[{"type": "custom", "function": {"name": "a"}}])], 'messages[0].tool_calls[0].type: must be "function"'),
        ([turn(tool_calls=[{"function": {"arguments": "{}"}}])], "messages[0].tool_calls[0].function.name: is required"),
        ([turn(tool_calls=[{"function": {"name": "a", "arguments": [1]}}])], "messages[0].tool_calls[0].function.arguments: must be a dictionary, not list"),
        (["a", 5], "messages[1]: must be text, a dictionary or a Message, not int"),
        ([turn(), ("user", "hi")], "messages[1]: must be text, a dictionary or a Message, not tuple"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_named_by_its_place(messages, message):
    """ValueError with the path of the member, before anything is sent."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is compared below
        built(messages)
    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function: must be a dictionary, not None"),
        ({"tools": [function_tool("a"), {"type": "web_search"}]}, 'tools[1].type: must be "function"'),
        ({"tools": [{"function": {"name": "a", "parameters": 5}}]}, "tools[0].function.parameters: must be a dictionary, not int"),
        ({"tools": [{"function": {"name": "a", "parameters": {"a": float("nan")}}}]}, "tools[0].function.parameters: cannot be written as JSON: Out of range float values are not JSON compliant"),
        ({"tools": [{"function": {"name": "a", "strict": "yes"}}]}, "tools[0].function.strict: must be True or False, not str"),
        ({"tools": [{"name": "a"}]}, "tools[0].name: is not supported; supported are type, function"),
        ({"tool_choice": "any"}, "tool_choice: must be one of auto, none, required, or a function"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function: must be a dictionary, not None"),
        ({"response_format": {"type": "xml"}}, "response_format.type: must be one of text, json_object, json_schema, regex"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema: must be a dictionary, not None"),
        ({"response_format": {"type": "regex"}}, "response_format.pattern: is required"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_by_its_place(fields, message):
    """Tools, the choice and the format, too."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is compared below
        built("hi", **fields)
    assert str(caught.value).startswith(message)
