"""Reading a chat request, and refusing one."""

import json

import pytest

from togetherchat_sandbox.refusals import Refused
from togetherchat_sandbox.request import Format, Message, Tool, read

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def asked(**fields):
    return read(json.dumps({"model": "m", "messages": HELLO, **fields}).encode())


def refusal_of(data):
    with pytest.raises(Refused) as caught:
        read(data if isinstance(data, bytes) else json.dumps(data).encode())
    return caught.value.refusal


def test_a_plain_request():
    """Model and messages are enough; everything else has its default."""
    request = asked()
    assert ("m", (Message(role="user", text="hello"),), False, 1, None) == (
        request.model,
        request.messages,
        request.stream,
        request.choices,
        request.max_tokens,
    )


def test_every_field_that_matters():
    """What changes an answer is read."""
    request = asked(
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=5,
        stop=["\n"],
        seed=2**64 - 1,
        n=3,
        logprobs=2,
        echo=True,
        tools=[WEATHER],
        tool_choice="required",
        context_length_exceeded_behavior="truncate",
    )
    assert (True, True, 5, ("\n",), 2**64 - 1, 3, 2, True, "required", True) == (
        request.stream,
        request.include_usage,
        request.max_tokens,
        request.stop,
        request.seed,
        request.choices,
        request.logprobs,
        request.echo,
        request.tool_choice,
        request.truncate,
    )
    assert (Tool(name="get_weather", parameters={"type": "object"}),) == request.tools


def test_stop_may_be_a_string():
    """A bare string is a list of one."""
    assert ("END",) == asked(stop="END").stop


def test_parts_of_a_message():
    """Texts are joined, other parts counted."""
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    request = asked(messages=[{"role": "user", "content": parts}])
    assert (Message(role="user", text="look", attachments=1),) == request.messages


def test_an_assistant_message_without_content():
    """A turn that only called tools has no content."""
    request = asked(messages=[*HELLO, {"role": "assistant", "content": None, "tool_calls": []}])
    assert Message(role="assistant", text="") == request.messages[1]


@pytest.mark.parametrize(
    ("expected", "choice"),
    [
        ("auto", None),
        ("none", "none"),
        ("required", "required"),
        ("get_weather", "get_weather"),
        ("get_weather", {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
def test_tool_choices(expected, choice):
    """A tool choice is a word or a function's name, in either of its forms."""
    assert expected == asked(tools=[WEATHER], tool_choice=choice).tool_choice


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}}},
        {"type": "json_schema", "schema": {"type": "integer"}},
    ],
)
def test_schemas_of_today_and_of_2024(response_format):
    """A schema is found where the specification has it and where it used to be."""
    request = asked(response_format=response_format)
    assert (Format.JSON_SCHEMA, {"type": "integer"}) == (request.format, request.schema)


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        (True, {}),
        (True, {"reasoning": {"enabled": True}}),
        (False, {"reasoning": {"enabled": False}}),
        (False, {"chat_template_kwargs": {"thinking": False}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}),
    ],
)
def test_thinking_can_be_switched_off(expected, fields):
    """Either switch keeps a model from thinking."""
    assert expected is asked(**fields).may_think


@pytest.mark.parametrize(
    ("status", "start", "data"),
    [
        (400, "The body is no JSON", b"{"),
        (400, "The body is no JSON", b"\xff"),
        (400, "The body is no JSON object", b"[]"),
        (400, "Input required: model", {"messages": HELLO}),
        (400, "Input required: model", {"model": "", "messages": HELLO}),
        (400, "Input required: messages", {"model": "m"}),
        (400, "Input required: messages", {"model": "m", "messages": []}),
        (422, "Input validation error: `model`", {"model": 1, "messages": HELLO}),
        (422, "Input validation error: `messages`", {"model": "m", "messages": "hello"}),
        (422, "Input validation error: `messages[0].role`", {"model": "m", "messages": ["hello"]}),
        (422, "Input validation error: `messages[0].role`", {"model": "m", "messages": [{"role": "king"}]}),
        (
            422,
            "Input validation error: `messages[0].content`",
            {"model": "m", "messages": [{"role": "user"}]},
        ),
    ],
)
def test_what_is_missing_and_what_is_wrong(status, start, data):
    """Missing parts are 400, wrong ones 422, and the text says which."""
    refusal = refusal_of(data)
    assert (status, start) == (refusal.status, refusal.message[: len(start)])


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2.1},
        {"temperature": "hot"},
        {"temperature": True},
        {"top_p": -0.1},
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"max_tokens": True},
        {"n": 129},
        {"logprobs": 21},
        {"seed": 0.5},
        {"stream": "yes"},
        {"tools": {}},
        {"tools": [{"type": "function"}]},
        {"tool_choice": "required"},
        {"tool_choice": "get_weather"},
        {"response_format": {"type": "xml"}},
        {"response_format": "json"},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
    ],
)
def test_wrong_values(fields):
    """A value outside its documented type or range is refused."""
    body = {"model": "m", "messages": HELLO, **fields}
    assert 422 == refusal_of(body).status


def test_nulls_and_unknown_fields_are_nothing():
    """A null is a field left out, and so is a field that nobody documents."""
    assert asked() == asked(temperature=None, max_tokens=None, stop=None, tools=None, user="u", store=True)


def test_the_last_user_message_counts():
    """What the user said last is found behind later messages."""
    messages = [*HELLO, {"role": "assistant", "content": "hi"}, {"role": "tool", "content": "42"}]
    assert "hello" == asked(messages=messages).last_user_text


def test_without_a_user_the_last_message_counts():
    """Where no user spoke, the last message is the question."""
    assert "be kind" == asked(messages=[{"role": "system", "content": "be kind"}]).last_user_text
