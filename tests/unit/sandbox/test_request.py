"""Parsing a chat request, and rejecting an invalid one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from togetherchat_sandbox.api_errors import RequestRejectedError
from togetherchat_sandbox.request import ChatMessage, FunctionTool, parse_request
from togetherchat_sandbox.schema import ChatRequestFields, OutputFormat

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def parsed(**fields):
    return parse_request(json.dumps({"model": "m", "messages": HELLO, **fields}).encode())


def error_of(data):
    with pytest.raises(RequestRejectedError) as caught:
        parse_request(data if isinstance(data, bytes) else json.dumps(data).encode())
    return caught.value.error


def status_of(fields):
    try:
        parse_request(json.dumps(fields).encode())
    except RequestRejectedError as exc:
        return exc.error.status
    return 200


def test_a_plain_request():
    """Model and messages suffice; every other field has a default."""
    request = parsed()
    assert ("m", (ChatMessage(role="user", text="hello"),), False, 1, None) == (
        request.model,
        request.messages,
        request.stream,
        request.choices,
        request.max_tokens,
    )


def test_every_supported_field():
    """Each field that changes the completion is parsed."""
    request = parsed(
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
    assert (FunctionTool(name="get_weather", parameters={"type": "object"}),) == request.tools


def test_stop_may_be_a_string():
    """A single string equals a list of one."""
    assert ("END",) == parsed(stop="END").stop


def test_parts_of_a_message():
    """Text parts are joined, other parts are counted."""
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    request = parsed(messages=[{"role": "user", "content": parts}])
    assert (ChatMessage(role="user", text="look", attachments=1),) == request.messages


def test_an_assistant_message_without_content():
    """A message with tool calls needs no content."""
    request = parsed(messages=[*HELLO, {"role": "assistant", "content": None, "tool_calls": []}])
    assert ChatMessage(role="assistant", text="") == request.messages[1]


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
    """A tool choice is a keyword or a function's name, in either of its forms."""
    assert expected == parsed(tools=[WEATHER], tool_choice=choice).tool_choice


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}}},
        {"type": "json_schema", "schema": {"type": "integer"}},
    ],
)
def test_both_places_of_a_schema(response_format):
    """A schema is found in its specified place and in the place of 2024."""
    request = parsed(response_format=response_format)
    assert (OutputFormat.JSON_SCHEMA, {"type": "integer"}) == (request.format, request.schema)


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
def test_reasoning_can_be_disabled(expected, fields):
    """Each of the switches disables reasoning."""
    assert expected is parsed(**fields).reasoning_enabled


@pytest.mark.parametrize(
    ("status", "start", "data"),
    [
        (400, "The body is not JSON", b"{"),
        (400, "The body is not JSON", b"\xff"),
        (400, "The body is not a JSON object", b"[]"),
        (400, "Input required: model", {"messages": HELLO}),
        (400, "Input required: model", {"model": "", "messages": HELLO}),
        (400, "Input required: messages", {"model": "m"}),
        (400, "Input required: messages", {"model": "m", "messages": []}),
        (422, "Input validation error: `model`", {"model": 1, "messages": HELLO}),
        (422, "Input validation error: `messages`", {"model": "m", "messages": "hello"}),
        (422, "Input validation error: `messages[0]`", {"model": "m", "messages": ["hello"]}),
        (422, "Input validation error: `messages[0].role`", {"model": "m", "messages": [{"role": "king"}]}),
        (
            422,
            "Input validation error: `messages[0].content`",
            {"model": "m", "messages": [{"role": "user"}]},
        ),
    ],
)
def test_missing_and_invalid_fields(status, start, data):
    """A missing field gets 400 and an invalid one 422; the message names the field."""
    error = error_of(data)
    assert (status, start) == (error.status, error.message[: len(start)])


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
        {"tool_choice": {"type": "function"}},
        {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        {"stream_options": {"include_usage": "yes"}},
        {"stop": [1]},
        {"reasoning": {"enabled": "no"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
    ],
)
def test_invalid_values(fields):
    """A value outside its documented type or range is rejected."""
    body = {"model": "m", "messages": HELLO, **fields}
    assert 422 == error_of(body).status


def test_the_message_names_the_field_and_the_rule():
    """A rejection has Together's prefix, the path of the field and pydantic's rule."""
    body = {"model": "m", "messages": HELLO, "tools": [WEATHER, {"function": {"name": 1}}]}
    assert "Input validation error: `tools[1].function.name`: Input should be a valid string" == (
        error_of(body).message
    )


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-5, 5)
    | st.sampled_from(["", "user", "text", "a"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "function", "name", "schema", "json_schema", "role", "content", "enabled"]
            ),
            children,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*ChatRequestFields.model_fields]), JSON_VALUES))
def test_any_object_is_parsed_or_rejected(fields):
    """Whatever the fields hold, the request is parsed or rejected with 400 or 422."""
    assert status_of({"model": "m", "messages": HELLO, **fields}) in {200, 400, 422}


def test_nulls_and_unknown_fields_are_ignored():
    """A null field and an undocumented field equal a missing field."""
    assert parsed() == parsed(
        temperature=None, max_tokens=None, stop=None, tools=None, store=True, metadata={}
    )


def test_the_last_user_message():
    """The last user message is found before later messages of other roles."""
    messages = [*HELLO, {"role": "assistant", "content": "hi"}, {"role": "tool", "content": "42"}]
    assert "hello" == parsed(messages=messages).last_user_text


def test_without_a_user_message_the_last_message():
    """Without a user message, the last message is used."""
    assert "be kind" == parsed(messages=[{"role": "system", "content": "be kind"}]).last_user_text


def test_the_calls_of_a_message_and_parallel_calls():
    """The names of earlier calls and the switch of parallel calls are read."""
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [*HELLO, {"role": "assistant", "tool_calls": [call]}]
    request = parsed(messages=messages, parallel_tool_calls=False)
    assert [((), ("get_weather",)), False] == [
        tuple(message.calls for message in request.messages),
        request.parallel_tool_calls,
    ]


@pytest.mark.parametrize(
    ("expected", "roles"),
    [
        ("ab", ["user", "user"]),
        ("c", ["user", "assistant", "user"]),
        ("cd", ["user", "assistant", "user", "user", "assistant", "tool"]),
        ("", ["assistant"]),
    ],
)
def test_the_users_words_are_those_of_the_current_turn(expected, roles):
    """All user messages in a row count, also after the calls that they led to."""
    messages = [{"role": role, "content": letter} for role, letter in zip(roles, "abcdef", strict=False)]
    assert expected == parsed(messages=messages).user_words.replace("\n", "")
