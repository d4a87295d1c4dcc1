"""The request body: properties that the golden cases do not cover."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from togetherchat.v1 import chat_pb2 as messages
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.providers.together.request import (
    CONTEXT_LENGTH_EXCEEDED_BEHAVIORS,
    REASONING_FIELDS,
    ROLES,
    TOOL_CHOICES,
    to_schema,
)
from togetherchat_server.providers.together.response_parts import tool_call_id


def request_with(**fields: object) -> service.CompleteRequest:
    hello = messages.Message(role=messages.ROLE_USER, content=[messages.ContentPart(text="Hello")])
    return service.CompleteRequest(model="m", messages=[hello], **fields)


def body_of(request: service.CompleteRequest) -> dict[str, object]:
    return json.loads(to_schema(request, stream=False))


def test_roles_are_total():
    """Every role that a caller may send has a name at Together."""
    assert set(messages.Role.values()) - {messages.ROLE_UNSPECIFIED} == set(ROLES)


def test_tool_choices_are_total():
    """Every mode except UNSPECIFIED has a name at Together."""
    assert set(messages.ToolChoiceMode.values()) - {messages.TOOL_CHOICE_MODE_UNSPECIFIED} == set(
        TOOL_CHOICES
    )


def test_reasoning_fields_are_total():
    """Every field, UNSPECIFIED included, has a name at Together."""
    assert set(messages.ReasoningField.values()) == set(REASONING_FIELDS)


def test_context_length_exceeded_behaviors_are_total():
    """Every behavior except UNSPECIFIED has a word at Together."""
    unspecified = messages.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_UNSPECIFIED

    assert set(messages.ContextLengthExceededBehavior.values()) - {unspecified} == set(
        CONTEXT_LENGTH_EXCEEDED_BEHAVIORS
    )


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (messages.ToolChoice(mode=messages.TOOL_CHOICE_MODE_AUTO), "auto"),
        (messages.ToolChoice(mode=messages.TOOL_CHOICE_MODE_NONE), "none"),
        (messages.ToolChoice(mode=messages.TOOL_CHOICE_MODE_REQUIRED), "required"),
        (messages.ToolChoice(function_name="add"), {"type": "function", "function": {"name": "add"}}),
        (messages.ToolChoice(mode=messages.TOOL_CHOICE_MODE_UNSPECIFIED), None),
        (messages.ToolChoice(), None),
    ],
)
def test_tool_choice(choice: messages.ToolChoice, expected: object):
    """`tool_choice` has two forms, and is left out if nothing was chosen."""
    assert expected == body_of(request_with(tool_choice=choice)).get("tool_choice")


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        (messages.ResponseFormat(text=messages.TextFormat()), {"type": "text"}),
        (messages.ResponseFormat(json_object=messages.JsonObjectFormat()), {"type": "json_object"}),
        (messages.ResponseFormat(regex="[ab]+"), {"type": "regex", "pattern": "[ab]+"}),
        (
            messages.ResponseFormat(json_schema=messages.JsonSchemaFormat(name="a")),
            {"type": "json_schema", "json_schema": {"name": "a"}},
        ),
        (messages.ResponseFormat(), None),
    ],
)
def test_response_format(response_format: messages.ResponseFormat, expected: object):
    """`response_format` has a form for each kind, and is left out if unset."""
    assert expected == body_of(request_with(response_format=response_format)).get("response_format")


def test_unset_is_left_out():
    """The body of a request without options contains none, not even null."""
    assert set(body_of(request_with())) == {"model", "messages"}


@pytest.mark.parametrize("extra", ["{}", " { } ", "{\n}", ""])
def test_no_extra_members(extra: str):
    """An empty `extra_body_json` adds nothing."""
    assert to_schema(request_with(), stream=False) == to_schema(
        request_with(extra_body_json=extra), stream=False
    )


def test_past_tool_calls_without_ids_get_them():
    """Each call and its result have the same id, which stays when the conversation grows."""

    def turn(*ids: str) -> messages.Message:
        calls = [messages.ToolCall(id=one, function=messages.FunctionCall(name="f")) for one in ids]
        return messages.Message(role=messages.ROLE_ASSISTANT, tool_calls=calls)

    def result(call_id: str = "") -> messages.Message:
        return messages.Message(role=messages.ROLE_TOOL, tool_call_id=call_id)

    conversation = [turn("", "a", ""), result(), result("a"), result(), turn(""), turn(""), result()]
    bodies = [
        body_of(service.CompleteRequest(model="m", messages=conversation[:length]))["messages"]
        for length in (4, 7)
    ]
    first, second, third, fourth = (tool_call_id("", 0, number) for number in (0, 2, 3, 4))

    assert bodies[0] == bodies[1][:4]
    assert [[first, "a", second], [third], [fourth]] == [
        [call["id"] for call in message["tool_calls"]] for message in bodies[1] if "tool_calls" in message
    ]
    assert [first, "a", second, fourth] == [
        message["tool_call_id"] for message in bodies[1] if message["role"] == "tool"
    ]


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.fixed_dictionaries({}, optional={"temperature": NUMBERS, "top_p": NUMBERS, "min_p": NUMBERS}))
def test_numbers_are_unchanged(numbers: dict[str, float]):
    """A double is sent in its shortest decimal form, which parses to the same double; unset is absent."""
    body = body_of(request_with(**numbers))

    assert numbers == {name: body[name] for name in body.keys() - {"model", "messages"}}


def test_seven_tenths_is_seven_tenths():
    """A number without an exact binary fraction is written as the caller wrote it."""
    assert b'"temperature":0.7,' in to_schema(request_with(temperature=0.7, n=1), stream=False)


JSON_NUMBERS = st.sampled_from(["1", "1.0", "1e2", "-0", "12345678901234567890123", "0.1000"])
JSON_TEXTS = st.sampled_from(['"a"', '"\\ud83d"', '"\\u00e9"', '"\u00e9\u2028"', '"/\\/"', '""'])
SPACES = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


def spaced(draw: st.DrawFn, *parts: str) -> str:
    return "".join(draw(SPACES) + part for part in parts)


@st.composite
def json_objects(draw: st.DrawFn) -> str:
    """JSON objects with everything that parsing and printing would change."""
    value = st.recursive(
        JSON_NUMBERS | JSON_TEXTS | st.sampled_from(["true", "null"]),
        lambda inner: st.lists(inner, max_size=3).map(lambda items: "[" + " ,".join(items) + "]"),
        max_leaves=4,
    )
    keys = draw(st.lists(st.sampled_from(["z", "a", "k\\u00e9", "1"]), unique=True, max_size=3))
    members = ",".join(spaced(draw, f'"{key}"', ":", draw(value)) for key in keys)
    return draw(SPACES) + "{" + members + draw(SPACES) + "}" + draw(SPACES)


@settings(max_examples=30, deadline=None)
@given(json_objects(), json_objects(), json_objects(), json_objects())
def test_json_is_inserted_byte_for_byte(parameters: str, schema: str, kwargs: str, extra: str):
    """Schemas, template options and extra members are in the body unchanged."""
    tool = messages.Tool(function=messages.FunctionTool(name="f", parameters_json=parameters))
    json_schema = messages.JsonSchemaFormat(name="s", schema_json=schema)
    body = to_schema(
        request_with(
            tools=[tool],
            response_format=messages.ResponseFormat(json_schema=json_schema),
            chat_template_kwargs_json=kwargs,
            extra_body_json=extra,
        ),
        stream=True,
    ).decode()

    assert f'"parameters":{parameters}}}' in body
    assert f'"schema":{schema}}}' in body
    assert f'"chat_template_kwargs":{kwargs},"stream":true' in body
    members = extra.strip()[1:-1]
    assert body.endswith("," + members + "}" if members.strip() else '{"include_usage":true}}')
    assert json.loads(extra).items() <= json.loads(body).items()
