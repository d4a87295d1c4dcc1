import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.calls.validation import RequestLimits, validate
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.http.openai import messages as openai_messages
from togetherchat_server.frontends.http.openai import request as openai_request
from togetherchat_server.frontends.http.openai import response as openai_response
from togetherchat_server.frontends.http.openai import schema, unsupported

BASE = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def read(**members):
    return openai_request.read(json.dumps({**BASE, **members}).encode())


def rejected_fields(**members):
    with pytest.raises(ServiceError) as caught:
        read(**members)
    assert Reason.INVALID_REQUEST is caught.value.reason
    return [violation.field for violation in caught.value.violations]


def test_absent_members_are_not_set():
    """The provider's own defaults apply."""
    found = read()

    assert (False, None, ()) == (found.stream, found.include_usage, found.ignored)
    assert {"model", "messages"} == {field.name for field, _ in found.request.ListFields()}


def test_null_is_the_same_as_absent():
    """Many clients send null for members that they do not set, at every level."""
    message = {"role": "user", "content": "Hi", "name": None, "tool_calls": None, "audio": None}
    nulls = dict.fromkeys([*schema.RequestBody.model_fields, "user", "new_thing", "functions"]) | BASE

    assert read().request == read(**{**nulls, "messages": [message]}).request
    assert () == read(**nulls).ignored


def test_null_is_the_same_as_absent_in_messages_and_tools():
    """A member of OpenAI's that is null is read as if it were left out, in each object."""
    call = {"function": {"name": "f"}}
    messages = [
        *({"role": role} for role in openai_messages.ROLES),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    with_nulls = [
        *({"role": role, "content": None} for role in openai_messages.ROLES),
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{**call, "id": None, "type": None, "function": {"name": "f", "arguments": None}}],
        },
        {"role": "user", "content": [{"type": "text", "text": "Hi", "image_url": None, "new": None}]},
    ]
    function = {"name": "f", "description": None, "parameters": None, "strict": None}
    choice = {"function": {"name": "f"}}

    plain = read(messages=messages, tools=[{"function": {"name": "f"}}], tool_choice=choice)
    nulled = read(
        messages=with_nulls,
        tools=[{"type": None, "function": function}],
        tool_choice={**choice, "type": None},
        logit_bias={"7": None},
        response_format=None,
        reasoning={"enabled": None, "effort": None},
        stream_options={"include_usage": None},
    )

    assert (plain.request, ()) == (nulled.request, nulled.ignored)
    validate(nulled.request, RequestLimits())


INTEGERS = ["max_tokens", "max_completion_tokens", "top_k", "n", "seed", "logprobs"]


@pytest.mark.parametrize("name", INTEGERS)
def test_an_integer_may_be_written_with_a_fraction_of_zero(name):
    """JSON has one type of numbers, and languages such as Lua print all of them like this."""
    assert read(**{name: 4}).request == read(**{name: 4.0}).request
    assert [name] == rejected_fields(**{name: 4.5})
    assert [name] == rejected_fields(**{name: "4"})


def test_a_large_seed_may_be_a_float():
    """It means its shortest decimal form, as JavaScript prints it."""
    assert 15924764223251450000 == read(seed=1.592476422325145e19).request.seed


@pytest.mark.parametrize("logprobs", [{}, {"logprobs": False}, {"logprobs": None}])
def test_no_alternatives_without_log_probabilities(logprobs):
    """Zero alternatives are what a client without log probabilities wants."""
    found = read(top_logprobs=0, **logprobs).request

    assert not found.HasField("logprobs")
    assert ["top_logprobs"] == rejected_fields(top_logprobs=1, **logprobs)


def test_arguments_may_be_an_object():
    """Some engines send them like this, and clients send back what they received."""
    call = {"id": "c", "function": {"name": "f", "arguments": {"b": 1.0, "a": [2**70]}}}
    message = {"role": "assistant", "tool_calls": [call]}

    (found,) = read(messages=[message]).request.messages[0].tool_calls

    assert '{"b":1.0,"a":[1180591620717411303424]}' == found.function.arguments


def test_zeros_are_sent():
    """Zero is not the same as absent."""
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
def test_both_ways_to_request_log_probabilities(members, count, alternatives):
    """OpenAI's switch and number become Together's number."""
    found = read(**members)

    assert count == (found.request.logprobs if found.request.HasField("logprobs") else None)
    assert alternatives == found.alternatives


def test_max_completion_tokens_is_max_tokens():
    """Both names are allowed if their values are the same."""
    assert 7 == read(max_completion_tokens=7).request.max_tokens
    assert 7 == read(max_completion_tokens=7, max_tokens=7).request.max_tokens
    assert ["max_completion_tokens"] == rejected_fields(max_completion_tokens=7, max_tokens=8)


@pytest.mark.parametrize(("stop", "expected"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([], []), ("", [""])])
def test_stop_is_one_text_or_several(stop, expected):
    """Together gets a list."""
    assert expected == list(read(stop=stop).request.stop)


def test_every_behavior_and_reasoning_field_is_translated():
    """The tables name every value but UNSPECIFIED, and the schema has the same words."""
    behaviors = openai_request.CONTEXT_LENGTH_EXCEEDED_BEHAVIORS

    assert set(chat.ContextLengthExceededBehavior.values()) - {0} == set(behaviors.values())
    assert set(chat.ReasoningField.values()) - {0} == set(openai_response.REASONING_FIELDS)
    for word, behavior in behaviors.items():
        assert (
            behavior == read(context_length_exceeded_behavior=word).request.context_length_exceeded_behavior
        )
    for field, name in openai_response.REASONING_FIELDS.items():
        message = {"role": "assistant", "content": "x", name: "Hm"}
        assert field == read(messages=[message]).request.messages[0].reasoning_field


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_a_seed_has_its_field(seed):
    """The whole range of the field is accepted."""
    found = read(seed=seed, verbosity="low").request

    assert (seed, '{"verbosity":"low"}') == (found.seed, found.extra_body_json)


@pytest.mark.parametrize("seed", [-1, -(2**63)])
def test_a_negative_seed_travels_beside_unknown_members(seed):
    """The field is unsigned, so it stays unset."""
    found = read(seed=seed, verbosity="low").request

    assert not found.HasField("seed")
    assert {"seed": seed, "verbosity": "low"} == json.loads(found.extra_body_json)
    validate(found, RequestLimits())


def test_every_role_is_translated():
    """This includes `developer`."""
    roles = ["system", "developer", "user", "assistant", "tool"]
    messages = [{"role": role, "content": "x"} for role in roles]

    found = [chat.Role.Name(message.role) for message in read(messages=messages).request.messages]

    assert [f"ROLE_{role.upper()}" for role in roles] == found


def test_a_tool_choice_may_name_a_function():
    """This is the object form of `tool_choice`."""
    choice = {"type": "function", "function": {"name": "f"}}

    assert "f" == read(tool_choice=choice).request.tool_choice.function_name


@pytest.mark.parametrize("response_type", ["json_object", "json_schema"])
def test_togethers_schema_format_of_2024_is_supported(response_type):
    """The schema is a member beside `type`."""
    found = read(
        response_format={"type": response_type, "schema": {"type": "object"}}
    ).request.response_format

    assert '{"type":"object"}' == found.json_schema.schema_json


def test_json_keeps_its_order_and_its_numbers():
    """A schema reaches the provider unchanged."""
    schema = {"z": 1.0, "a": [2**70, -0.5, "é"], "properties": {"b": {}, "a": {}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}

    text = read(tools=[tool]).request.tools[0].function.parameters_json

    assert json.dumps(schema, separators=(",", ":"), ensure_ascii=False) == text


@pytest.mark.parametrize(
    ("members", "ignored"),
    [
        ({"store": True, "service_tier": "auto"}, ["store", "service_tier"]),
        ({"stream_options": {"include_obfuscation": False}}, ["stream_options.include_obfuscation"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]},
            ["messages[].content[].cache_control"],
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}, "x": 1}]}, ["tools[].x"]),
    ],
)
def test_ignored_members_are_named(members, ignored):
    """They are not sent to the provider."""
    found = read(**members)

    assert set(ignored) == set(found.ignored)
    assert "" == found.request.extra_body_json


def test_unknown_members_are_passed_through():
    """Ignored members are not, nor are values that are the default."""
    found = read(verbosity="low", store=True, modalities=["text"], verbose_json=True)

    assert {"verbosity": "low", "verbose_json": True} == json.loads(found.request.extra_body_json)


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"functions": [{}]}, "functions[0].name"),
        ({"functions": [{"name": "f"}], "tools": [{"function": {"name": "f"}}]}, "functions"),
        ({"functions": [{"name": "f"}], "tool_choice": "auto"}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
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
def test_members_that_cannot_be_served_are_rejected_by_name(members, field):
    """Otherwise the response would not be the requested one."""
    assert field in rejected_fields(**members)


BODY = json.dumps({**BASE, "metadata": {"a": "x"}}).encode()


def test_a_byte_order_mark_is_skipped():
    """Windows tools write one before UTF-8."""
    assert read(metadata={"a": "x"}) == openai_request.read(b"\xef\xbb\xbf" + BODY)


@pytest.mark.parametrize("more", [b"", b", NaN"])
@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (rb"\ud83d", r"a \u escape is half of a surrogate pair, which is not a character, at line 1 column"),
        (rb"\ude00", r"a \u escape is half of a surrogate pair, which is not a character, at line 1 column"),
        (rb"\ud83d\u0041", r"a \u escape is half of a surrogate pair, which is not a character, at line 1 "),
        (b"\xed\xa0\xbd", "bytes that are not UTF-8, at line 1 column"),
        (b"\xff", "bytes that are not UTF-8, at line 1 column"),
    ],
)
def test_the_cause_of_text_that_is_not_unicode_is_named(text, cause, more):
    """The other parser, for bodies with a number that JSON does not have, names the same causes."""
    with pytest.raises(ServiceError) as caught:
        openai_request.read(BODY.replace(b"x", text + more))

    assert caught.value.message.startswith(f"the body is not JSON: {cause}")


def test_the_cause_of_utf_16_is_named():
    """A byte order mark tells UTF-16 from other bytes."""
    with pytest.raises(ServiceError) as caught:
        openai_request.read(BODY.decode().encode("utf-16"))

    assert "the body is not JSON: its byte order mark is that of UTF-16; send UTF-8" == caught.value.message


@pytest.mark.parametrize("number", ["1e400", "-1e999"])
def test_a_number_that_does_not_fit_in_a_double_is_rejected_by_validation(number):
    """Such a number is never passed on as null."""
    body = json.dumps({**BASE, "new_thing": [0]}).replace("[0]", f"[{number}]")

    with pytest.raises(ServiceError) as caught:
        validate(openai_request.read(body.encode()).request, RequestLimits())

    assert Reason.INVALID_REQUEST is caught.value.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    sorted({*schema.RequestBody.model_fields, *unsupported.REJECTED, *unsupported.IGNORED, "new_thing"})
)
MESSAGES = st.lists(
    st.dictionaries(st.sampled_from(sorted({*schema.RequestMessage.model_fields, *unsupported.REJECTED_IN_MESSAGES})), JSON)
    | st.fixed_dictionaries(
        {"role": st.sampled_from(sorted(openai_messages.ROLES))},
        optional={"content": JSON | st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "input_audio"])}, optional={"text": JSON, "image_url": JSON, "input_audio": JSON}))},
    ),
    max_size=3,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(members=st.dictionaries(NAMES, JSON, max_size=4), messages=MESSAGES | JSON)
def test_any_json_is_translated_or_rejected(members, messages):
    """Only a ServiceError is raised, so no input causes an internal error."""
    body = json.dumps({"model": "m", "messages": messages, **members}).encode()
    try:
        found = openai_request.read(body)
        validate(found.request, RequestLimits())
    except ServiceError as error:
        assert error.reason in {Reason.INVALID_REQUEST, Reason.REQUEST_TOO_LARGE}  # noqa: PT017  both outcomes are valid


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_random_bytes_are_rejected(body):
    """Random bytes are practically never a valid request."""
    with pytest.raises(ServiceError) as caught:
        openai_request.read(body)

    assert Reason.INVALID_REQUEST is caught.value.reason
