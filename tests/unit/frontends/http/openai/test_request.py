import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.calls.validation import RequestLimits, validate
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.http.openai import request as openai_request
from togetherchat_server.frontends.http.openai import schema

ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def read(**members):
    return openai_request.read(json.dumps({**ASK, **members}).encode())


def refused(**members):
    with pytest.raises(ServiceError) as caught:
        read(**members)
    assert Reason.INVALID_REQUEST is caught.value.reason
    return [violation.field for violation in caught.value.violations]


def test_what_is_not_said_is_not_set():
    """The provider's own defaults rule."""
    found = read()

    assert (False, False, ()) == (found.stream, found.include_usage, found.ignored)
    assert {"model", "messages"} == {field.name for field, _ in found.request.ListFields()}


def test_null_is_the_same_as_absent():
    """Many clients send null for what they do not set, at every level."""
    message = {"role": "user", "content": "Hi", "name": None, "tool_calls": None, "audio": None}
    nulls = dict.fromkeys([*schema.Request.model_fields, "user", "new_thing", "functions"]) | ASK

    assert read().request == read(**{**nulls, "messages": [message]}).request
    assert () == read(**nulls).ignored


def test_zeros_are_sent():
    """They mean something."""
    request = read(temperature=0, seed=0, presence_penalty=0.0, top_p=0).request

    assert all(request.HasField(name) for name in ("temperature", "seed", "presence_penalty", "top_p"))


@pytest.mark.parametrize(
    ("members", "count", "alternatives"),
    [
        ({}, None, True),
        ({"logprobs": False}, None, False),
        ({"logprobs": True}, 1, False),
        ({"logprobs": True, "top_logprobs": 0}, 1, False),
        ({"logprobs": True, "top_logprobs": 3}, 3, True),
        ({"logprobs": 2}, 2, True),
    ],
)
def test_both_ways_to_ask_for_log_probabilities(members, count, alternatives):
    """OpenAI's switch and number become Together's number."""
    found = read(**members)

    assert count == (found.request.logprobs if found.request.HasField("logprobs") else None)
    assert alternatives == found.alternatives


def test_max_completion_tokens_is_max_tokens():
    """The new name of the same thing; twice the same is no contradiction."""
    assert 7 == read(max_completion_tokens=7).request.max_tokens
    assert 7 == read(max_completion_tokens=7, max_tokens=7).request.max_tokens
    assert ["max_completion_tokens"] == refused(max_completion_tokens=7, max_tokens=8)


@pytest.mark.parametrize(("said", "expected"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([], [])])
def test_stop_is_one_text_or_several(said, expected):
    """Together is given a list."""
    assert expected == list(read(stop=said).request.stop)


def test_every_role():
    """`developer` among them."""
    roles = ["system", "developer", "user", "assistant", "tool"]
    messages = [{"role": role, "content": "x"} for role in roles]

    found = [chat.Role.Name(message.role) for message in read(messages=messages).request.messages]

    assert [f"ROLE_{role.upper()}" for role in roles] == found


def test_a_tool_choice_by_name():
    """The object form."""
    choice = {"type": "function", "function": {"name": "f"}}

    assert "f" == read(tool_choice=choice).request.tool_choice.function_name


@pytest.mark.parametrize("reason", ["json_object", "json_schema"])
def test_togethers_schema_of_2024(reason):
    """`schema` beside `type`."""
    found = read(response_format={"type": reason, "schema": {"type": "object"}}).request.response_format

    assert '{"type":"object"}' == found.json_schema.schema_json


def test_json_keeps_its_order_and_its_numbers():
    """A schema reaches the provider as it was meant."""
    schema = {"z": 1.0, "a": [2**70, -0.5, "é"], "properties": {"b": {}, "a": {}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}

    text = read(tools=[tool]).request.tools[0].function.parameters_json

    assert json.dumps(schema, separators=(",", ":"), ensure_ascii=False) == text


@pytest.mark.parametrize(
    ("members", "ignored"),
    [
        ({"user": "u", "service_tier": "auto"}, ["user", "service_tier"]),
        ({"stream_options": {"include_obfuscation": False}}, ["stream_options.include_obfuscation"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]},
            ["messages[].content[].cache_control"],
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}, "x": 1}]}, ["tools[].x"]),
    ],
)
def test_what_is_ignored_is_named(members, ignored):
    """In the order of the request, for there is no place to travel in."""
    found = read(**members)

    assert set(ignored) == set(found.ignored)
    assert "" == found.request.extra_body_json


def test_what_is_not_known_travels_on():
    """But for what is ignored or known to be no more than the default."""
    found = read(verbosity="low", user="u", modalities=["text"], parallel_tool_calls=True)

    assert {"verbosity": "low", "parallel_tool_calls": True} == json.loads(found.request.extra_body_json)


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"functions": [{}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"messages": [{"role": "assistant", "refusal": "No."}]}, "messages[].refusal"),
        ({"messages": [{"role": "assistant", "content": "x", "prefix": True}]}, "messages[].prefix"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"response_format": {"type": "regex"}}, "response_format.pattern"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"logit_bias": {"7": "x"}}, "logit_bias"),
        ({"n": True}, "n"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(members, field):
    """Rather than answered with something else."""
    assert field in refused(**members)


@pytest.mark.parametrize("number", ["1e400", "-1e999"])
def test_a_number_that_no_double_holds_is_refused_later(number):
    """It is never handed on as null."""
    body = json.dumps({**ASK, "new_thing": [0]}).replace("[0]", f"[{number}]")

    with pytest.raises(ServiceError) as caught:
        validate(openai_request.read(body.encode()).request, RequestLimits())

    assert Reason.INVALID_REQUEST is caught.value.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    sorted({*schema.Request.model_fields, *openai_request.REFUSED, *openai_request.IGNORED, "new_thing"})
)
MESSAGES = st.lists(
    st.dictionaries(st.sampled_from(sorted({*schema.Message.model_fields, *openai_request.REFUSED_IN_MESSAGES})), JSON)
    | st.fixed_dictionaries(
        {"role": st.sampled_from(sorted(openai_request.ROLES))},
        optional={"content": JSON | st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "input_audio"])}, optional={"text": JSON, "image_url": JSON, "input_audio": JSON}))},
    ),
    max_size=3,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(members=st.dictionaries(NAMES, JSON, max_size=4), messages=MESSAGES | JSON)
def test_any_json_is_an_inquiry_or_refused(members, messages):
    """Nothing else is raised, so nothing that is sent is a fault of the service."""
    body = json.dumps({"model": "m", "messages": messages, **members}).encode()
    try:
        found = openai_request.read(body)
        validate(found.request, RequestLimits())
    except ServiceError as error:
        assert error.reason in {Reason.INVALID_REQUEST, Reason.REQUEST_TOO_LARGE}  # noqa: PT017  it is the point


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_any_bytes_are_refused_in_order(body):
    """They are hardly ever a request."""
    with pytest.raises(ServiceError) as caught:
        openai_request.read(body)

    assert Reason.INVALID_REQUEST is caught.value.reason
