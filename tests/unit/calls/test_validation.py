"""Each rule of the contract, with values at its bound and just beyond it."""

import json
import math

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation import RequestLimits, validate
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError

LIMITS = RequestLimits()
TEXT = chat.ContentPart(text="hello")
IMAGE = chat.ContentPart(image=chat.Image(url="https://example.org/cat.png"))
CALL = chat.ToolCall(id="call_1", function=chat.FunctionCall(name="look", arguments="{"))


def request(**fields) -> service.CompleteRequest:
    """Return a valid request with these fields replaced."""
    good = {"model": "maker/model", "messages": [message()]}
    return service.CompleteRequest(**{**good, **fields})


def message(role=chat.ROLE_USER, content=(TEXT,), **fields) -> chat.Message:
    return chat.Message(role=role, content=content, **fields)


def with_part(part: chat.ContentPart) -> service.CompleteRequest:
    return request(messages=[message(content=[part])])


def tool(name="look", **fields) -> chat.Tool:
    return chat.Tool(function=chat.FunctionTool(name=name, **fields))


def schema(**fields) -> service.CompleteRequest:
    return request(response_format=chat.ResponseFormat(json_schema=chat.JsonSchemaFormat(**fields)))


def violations(wrong: service.CompleteRequest, limits: RequestLimits = LIMITS) -> tuple[FieldViolation, ...]:
    with pytest.raises(ServiceError) as raised:
        validate(wrong, limits)
    assert raised.value.reason is Reason.INVALID_REQUEST
    return raised.value.violations


def fields_of(wrong: service.CompleteRequest, limits: RequestLimits = LIMITS) -> list[str]:
    return [violation.field for violation in violations(wrong, limits)]


GOOD = {
    "the least": request(),
    "model of 1": request(model="m"),
    "model of 256": request(model="m" * 256),
    "model in another script": request(model="модель/模型"),
    "messages": request(messages=[message()] * 4096),
    "max_tokens least": request(max_tokens=1),
    "max_tokens most": request(max_tokens=2**31 - 1),
    "temperature 0": request(temperature=0.0),
    "temperature 2": request(temperature=2.0),
    "top_p 0": request(top_p=0.0),
    "top_p 1": request(top_p=1.0),
    "min_p 0": request(min_p=0.0),
    "min_p 1": request(min_p=1.0),
    "top_k 1": request(top_k=1),
    "top_k all": request(top_k=-1),
    "top_k 0, all": request(top_k=0),
    "repetition_penalty tiny": request(repetition_penalty=5e-324),
    "repetition_penalty huge": request(repetition_penalty=1e308),
    "presence_penalty -2": request(presence_penalty=-2.0),
    "presence_penalty 2": request(presence_penalty=2.0),
    "frequency_penalty -2": request(frequency_penalty=-2.0),
    "frequency_penalty 2": request(frequency_penalty=2.0),
    "n 1": request(n=1),
    "n 128": request(n=128),
    "logprobs 0": request(logprobs=0),
    "logprobs 20": request(logprobs=20),
    "seed least": request(seed=0),
    "seed above int64": request(seed=2**63),
    "seed most": request(seed=2**64 - 1),
    "negative seed": request(extra_body_json='{"seed": -1}'),
    "negative seed least": request(extra_body_json=f'{{"seed": {-(2**63)}}}'),
    "echo": request(echo=True),
    "stop 1024": request(stop=["x"] * 1024),
    "stop empty": request(stop=[""]),
    "stop of a line end": request(stop=["\n"]),
    "stop long": request(stop=["x" * 1024]),
    "logit_bias": request(logit_bias={"0": -100.0, "128000": 100.0}),
    "fallbacks": request(fallback_models=["a", "b", "c" * 256]),
    "reasoning_effort": request(reasoning_effort="low"),
    "reasoning_effort new": request(reasoning_effort="x-high_2.0"),
    "reasoning off": request(reasoning_enabled=False),
    "safety_model": request(safety_model="meta-llama/Llama-Guard-4-12B"),
    "behavior error": request(context_length_exceeded_behavior=chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR),
    "behavior truncate": request(
        context_length_exceeded_behavior=chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_TRUNCATE
    ),
    "compliance": request(compliance="hipaa"),
    "prompt_cache_key": request(prompt_cache_key="k" * 1024),
    "user": request(user="ü" * 256),
    "kwargs": request(chat_template_kwargs_json='{"thinking": true}'),
    "extra body": request(extra_body_json=' {"top_a": 0.5} '),
    "extra body with a name of ours inside": request(extra_body_json='{"x": {"model": 1}}'),
    "every role": request(
        messages=[
            message(chat.ROLE_SYSTEM),
            message(chat.ROLE_DEVELOPER),
            message(chat.ROLE_USER, name="one of us"),
            message(
                chat.ROLE_ASSISTANT,
                (),
                tool_calls=[CALL],
                reasoning="hm",
                reasoning_field=chat.REASONING_FIELD_REASONING,
            ),
            message(chat.ROLE_TOOL, tool_call_id="call_1"),
            message(
                chat.ROLE_ASSISTANT, reasoning="hm", reasoning_field=chat.REASONING_FIELD_REASONING_CONTENT
            ),
            message(chat.ROLE_ASSISTANT, ()),
        ]
    ),
    "a picture in each role": request(
        messages=[message(role, [TEXT, IMAGE]) for role in chat.Role.values() if role]
    ),
    "no content in each role": request(messages=[message(role, ()) for role in chat.Role.values() if role]),
    "fields of other roles": request(
        messages=[
            message(chat.ROLE_TOOL),
            message(tool_call_id="call_1"),
            message(
                tool_calls=[CALL],
                reasoning="hm",
                reasoning_field=chat.REASONING_FIELD_REASONING,
                name="bell\a",
            ),
        ]
    ),
    "parts 16384": request(messages=[message(content=[TEXT] * 16_384)]),
    "tool calls 16384": request(messages=[message(chat.ROLE_ASSISTANT, (), tool_calls=[CALL] * 16_384)]),
    "empty text": with_part(chat.ContentPart(text="")),
    "text and image": request(messages=[message(content=[TEXT, IMAGE])]),
    "image http": with_part(chat.ContentPart(image=chat.Image(url="http://h"))),
    "image HTTPS": with_part(chat.ContentPart(image=chat.Image(url="HTTPS://h/ä?x=1#y"))),
    "image data URL": with_part(chat.ContentPart(image=chat.Image(url="data:image/png;base64,AAAA"))),
    "image Data URL without type": with_part(chat.ContentPart(image=chat.Image(url="DATA:,x"))),
    "image data URL, long": with_part(
        chat.ContentPart(image=chat.Image(url="data:image/png;base64," + "A" * 99_999))
    ),
    "image inline": with_part(chat.ContentPart(image=chat.Image(data=b"x", media_type="image/svg+xml"))),
    "url of 8192": with_part(chat.ContentPart(video_url="https://h/" + "x" * 8182)),
    "video": with_part(chat.ContentPart(video_url="https://h/v.mp4")),
    "audio": with_part(chat.ContentPart(audio_url="https://h/a.wav")),
    "audio inline": with_part(chat.ContentPart(audio=chat.Audio(data=b"x", format="wav"))),
    "audio of another format": with_part(
        chat.ContentPart(audio=chat.Audio(data=b"x", format="audio/L16; rate=8"))
    ),
    "tools 1024": request(tools=[tool(f"t{number}") for number in range(1024)]),
    "tool name of 256": request(tools=[tool("server.look up/ä" + "x" * 240)]),
    "tools of one name": request(tools=[tool("a"), tool("a")]),
    "format schema with another name": schema(name="a b", schema_json="{}"),
    "tool parameters": request(
        tools=[tool(parameters_json='{"type": "object"}', description="looks", strict=True)]
    ),
    "tool choice of a rule": request(tool_choice=chat.ToolChoice(mode=chat.TOOL_CHOICE_MODE_NONE)),
    "tool choice unspecified": request(tool_choice=chat.ToolChoice(mode=chat.TOOL_CHOICE_MODE_UNSPECIFIED)),
    "tool choice by name": request(
        tools=[tool("a"), tool("b")], tool_choice=chat.ToolChoice(function_name="b")
    ),
    "format text": request(response_format=chat.ResponseFormat(text=chat.TextFormat())),
    "format object": request(response_format=chat.ResponseFormat(json_object=chat.JsonObjectFormat())),
    "format schema": schema(name="answer", schema_json='{"type": "object"}', strict=True),
    "format schema without one": schema(name="answer"),
    "format regex": request(response_format=chat.ResponseFormat(regex="a+")),
    "model's own mistakes in a tool call": request(
        messages=[
            message(
                chat.ROLE_ASSISTANT,
                (),
                tool_calls=[
                    chat.ToolCall(function=chat.FunctionCall(name="functions.look me", arguments="{]"))
                ],
            )
        ]
    ),
    "a tool call without id and name, and its result": request(
        messages=[
            message(),
            message(chat.ROLE_ASSISTANT, (), tool_calls=[CALL, chat.ToolCall(function=chat.FunctionCall())]),
            message(chat.ROLE_TOOL, tool_call_id="call_1"),
            message(chat.ROLE_TOOL),
        ]
    ),
    "an id with a signature in it": request(
        messages=[
            message(
                chat.ROLE_ASSISTANT,
                (),
                tool_calls=[
                    chat.ToolCall(id="call_" + "s" * 16_379, function=chat.FunctionCall(name="n" * 16_384))
                ],
            ),
            message(chat.ROLE_TOOL, tool_call_id="call_" + "s" * 16_379),
        ]
    ),
}

NUMBERS = {
    "max_tokens": [0, -1],
    "temperature": [-5e-324, math.nextafter(2, 3), math.nan, math.inf, -math.inf],
    "top_p": [-0.1, 1.1, math.nan, math.inf],
    "min_p": [-0.1, 1.1, math.nan, math.inf],
    "top_k": [-2],
    "repetition_penalty": [0.0, -1.0, math.nan, math.inf],
    "presence_penalty": [-2.1, 2.1, math.nan, math.inf],
    "frequency_penalty": [-2.1, 2.1, math.nan, math.inf],
    "n": [0, 129],
    "logprobs": [-1, 21],
}

BAD = [
    *((request(**{name: value}), name) for name, values in NUMBERS.items() for value in values),
    (request(model=""), "model"),
    (request(model="m" * 257), "model"),
    (request(model="two words"), "model"),
    (request(model="line\n"), "model"),
    (request(model="nbsp\u00a0"), "model"),
    (request(messages=[]), "messages"),
    (request(messages=[message()] * 4097), "messages"),
    (request(stop=["x"] * 1025), "stop"),
    (request(stop=["x" * 1025]), "stop[0]"),
    (request(logit_bias={"12": 100.1}), "logit_bias[12]"),
    (request(logit_bias={"12": math.nan}), "logit_bias[12]"),
    (request(logit_bias={"-1": 1.0}), "logit_bias"),
    (request(logit_bias={"": 1.0}), "logit_bias"),
    (request(logit_bias={"x": 1.0}), "logit_bias"),
    (request(logit_bias={"\u0663": 1.0}), "logit_bias"),
    (request(logit_bias={"1" * 11: 1.0}), "logit_bias"),
    (request(logit_bias={str(number): 1.0 for number in range(4097)}), "logit_bias"),
    (request(fallback_models=["a"] * 4), "fallback_models"),
    (request(fallback_models=["a", ""]), "fallback_models[1]"),
    (request(fallback_models=["a b"]), "fallback_models[0]"),
    (request(reasoning_effort="very much"), "reasoning_effort"),
    (request(reasoning_effort="x" * 65), "reasoning_effort"),
    (request(safety_model="two words"), "safety_model"),
    (request(context_length_exceeded_behavior=77), "context_length_exceeded_behavior"),
    (request(context_length_exceeded_behavior=-1), "context_length_exceeded_behavior"),
    (request(compliance="HIPAA"), "compliance"),
    (request(prompt_cache_key="k" * 1025), "prompt_cache_key"),
    (request(user="u" * 257), "user"),
    *(
        (request(extra_body_json=f'{{"seed": {seed}}}'), "extra_body_json")
        for seed in ("0", "1", "-1.0", "-0", '"-1"', "true", "null", str(-(2**63) - 1), str(2**64), "[-1]")
    ),
    (request(seed=1, extra_body_json='{"seed": -1}'), "extra_body_json"),
    (request(messages=[message(chat.ROLE_UNSPECIFIED)]), "messages[0].role"),
    (request(messages=[message(77)]), "messages[0].role"),
    (request(messages=[message(chat.ROLE_TOOL, tool_call_id="c" * 16_385)]), "messages[0].tool_call_id"),
    (request(messages=[message(chat.ROLE_ASSISTANT, reasoning_field=77)]), "messages[0].reasoning_field"),
    (request(messages=[message(name="x" * 257)]), "messages[0].name"),
    *(
        (
            request(messages=[message(role, [TEXT, chat.ContentPart(video_url="file:///x")])]),
            "messages[0].content[1].video_url",
        )
        for role in chat.Role.values()
        if role
    ),
    (with_part(chat.ContentPart()), "messages[0].content[0]"),
    (with_part(chat.ContentPart(image=chat.Image())), "messages[0].content[0].image"),
    (with_part(chat.ContentPart(image=chat.Image(media_type="image/png"))), "messages[0].content[0].image"),
    *(
        (with_part(chat.ContentPart(image=chat.Image(url=url))), "messages[0].content[0].image.url")
        for url in (
            "",
            "file:///etc/passwd",
            "ftp://h/x",
            "javascript:alert(1)",
            "//h/x",
            "https:/h",
            "https://",
            "https:///x",
            "http://?x",
            " https://h",
            "https://h/a b",
            "https://h/a\nb",
            "data:image/png;base64",
            "data:image/png; base64,AAAA",
            "https://h/" + "x" * 8183,
        )
    ),
    (with_part(chat.ContentPart(video_url="file:///x")), "messages[0].content[0].video_url"),
    (with_part(chat.ContentPart(audio_url="file:///x")), "messages[0].content[0].audio_url"),
    (
        with_part(chat.ContentPart(image=chat.Image(data=b"", media_type="image/png"))),
        "messages[0].content[0].image.data",
    ),
    *(
        (
            with_part(chat.ContentPart(image=chat.Image(data=b"x", media_type=media_type))),
            "messages[0].content[0].image.media_type",
        )
        for media_type in (
            "",
            "png",
            "image/",
            "/png",
            "image/png;q=1",
            "image/png\n",
            "image/p ng",
            "a/b/c",
            "bíld/x",
        )
    ),
    (with_part(chat.ContentPart(audio=chat.Audio(format="wav"))), "messages[0].content[0].audio.data"),
    *(
        (
            with_part(chat.ContentPart(audio=chat.Audio(data=b"x", format=form))),
            "messages[0].content[0].audio.format",
        )
        for form in ("", "x" * 65)
    ),
    *(
        (request(messages=[message(chat.ROLE_ASSISTANT, (), tool_calls=calls)]), path)
        for calls, path in (
            ([CALL, chat.ToolCall(id="c")], "messages[0].tool_calls[1]"),
            ([CALL] * 16_385, "messages"),
            (
                [chat.ToolCall(function=chat.FunctionCall(name="x" * 16_385))],
                "messages[0].tool_calls[0].function.name",
            ),
            (
                [chat.ToolCall(id="x" * 16_385, function=chat.FunctionCall(name="x"))],
                "messages[0].tool_calls[0].id",
            ),
        )
    ),
    (request(tools=[tool(f"t{number}") for number in range(1025)]), "tools"),
    (request(tools=[tool(), chat.Tool()]), "tools[1]"),
    *((request(tools=[tool(name)]), "tools[0].function.name") for name in ("", "x" * 257)),
    (request(tools=[tool(description="x" * 65_537)]), "tools[0].function.description"),
    (request(tools=[tool(parameters_json="[]")]), "tools[0].function.parameters_json"),
    (request(tool_choice=chat.ToolChoice()), "tool_choice"),
    (request(tool_choice=chat.ToolChoice(mode=77)), "tool_choice.mode"),
    (
        request(tools=[tool("a")], tool_choice=chat.ToolChoice(function_name="b")),
        "tool_choice.function_name",
    ),
    (request(tool_choice=chat.ToolChoice(function_name="")), "tool_choice.function_name"),
    (request(response_format=chat.ResponseFormat()), "response_format"),
    (request(response_format=chat.ResponseFormat(regex="")), "response_format.regex"),
    (request(response_format=chat.ResponseFormat(regex="x" * 65_537)), "response_format.regex"),
    (schema(), "response_format.json_schema.name"),
    (schema(name="x" * 257), "response_format.json_schema.name"),
    (schema(name="a", description="x" * 65_537), "response_format.json_schema.description"),
    (schema(name="a", schema_json="true"), "response_format.json_schema.schema_json"),
]


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD.keys())
def test_a_valid_request_passes(good):
    """Every bound is inclusive."""
    validate(good, LIMITS)


@pytest.mark.parametrize(
    ("wrong", "field"), BAD, ids=[f"{number}-{bad[1]}" for number, bad in enumerate(BAD)]
)
def test_an_invalid_field_is_named(wrong, field):
    """There is one violation, with the path of the field."""
    assert [field] == fields_of(wrong)


JSON_FIELDS = {
    "tools[0].function.parameters_json": lambda text: request(tools=[tool(parameters_json=text)]),
    "response_format.json_schema.schema_json": lambda text: schema(name="a", schema_json=text),
    "chat_template_kwargs_json": lambda text: request(chat_template_kwargs_json=text),
    "extra_body_json": lambda text: request(extra_body_json=text),
}


@pytest.mark.parametrize("field", JSON_FIELDS)
@pytest.mark.parametrize(
    "text",
    [
        "null",
        "1",
        '"text"',
        "[]",
        "{",
        "{}{}",
        '{"x": NaN}',
        '{"x": Infinity}',
        '{"x": -Infinity}',
        "{'x': 1}",
        '{"x": 1,}',
        '{"x": 01}',
        '{"x": "a\nb"}',
        "{} // no comment",
        " ",
        "\ufeff{}",
        '{"x": ' * 128 + "1" + "}" * 128 + "}",
        '{"x": ' * 129 + "1" + "}" * 129,
        '{"x": ' + "[" * 128 + "]" * 128 + "}",
        "[" * 100_000,
        '{"x":' * 30_000,
    ],
    ids=lambda text: text[:20],
)
def test_json_must_be_one_object_of_bounded_depth(field, text):
    """Parsing follows RFC 8259 strictly, and never overflows the stack."""
    assert [field] == fields_of(JSON_FIELDS[field](text))


@pytest.mark.parametrize("field", JSON_FIELDS)
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        ' \n{"x": [1, 2.5e3, true, null, "\\ud83e\\udd99"]}\t',
        '{"x": 1, "x": 2}',
        '{"x": 123456789012345678901234567890}',
        '{"x": ' * 32 + "1" + "}" * 32,
        '{"y": [], "x": ' * 31 + "{}" + "}" * 31,
        '{"x": "' + "[{" * 100 + '"}',
        json.dumps({"x": [{}] * 100}),
    ],
    ids=lambda text: text[:20],
)
def test_valid_json_objects_pass(field, text):
    """Duplicate keys, numbers that fit in a double, 32 levels and brackets in strings are allowed."""
    validate(JSON_FIELDS[field](text), LIMITS)


def test_a_number_of_5000_digits_is_rejected():
    """The number does not fit in a double, and parsing it as an integer would be slow."""
    assert fields_of(request(extra_body_json='{"x": ' + "1" * 5000 + "}")) == ["extra_body_json"]


def test_the_json_texts_of_a_request_share_a_budget():
    """128 tools must not have 128 times as much."""
    text = json.dumps({"x": "y" * 400_000})
    tools = [tool(f"t{number}", parameters_json=text) for number in range(3)]
    validate(request(tools=tools[:2]), LIMITS)
    assert fields_of(request(tools=tools)) == ["tools[2].function.parameters_json"]


def test_brackets_are_counted_before_parsing():
    """A megabyte of empty lists takes long to parse."""
    assert fields_of(request(extra_body_json='{"x": [' + "[]," * 32_767 + "0]}")) == ["extra_body_json"]


def test_parts_are_counted_before_they_are_checked():
    """A million parts of two bytes each exceed the bound."""
    messages = [message(content=[TEXT] * 256)] * 64
    validate(request(messages=messages), LIMITS)
    assert fields_of(request(messages=[*messages, message(content=[IMAGE])])) == ["messages"]


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "messages",
        "max_tokens",
        "reasoning",
        "chat_template_kwargs",
        "stream",
        "stream_options",
        "tools",
    ],
)
def test_extra_body_must_not_contain_reserved_names(name):
    """The violation names the member, which is a known name and not the caller's text."""
    [violation] = violations(request(extra_body_json=json.dumps({name: None, "other": 1})))
    assert violation.field == "extra_body_json"
    assert repr(name) in violation.description


def test_an_escaped_name_in_the_extra_body_is_the_same_name():
    """Keys are compared after unescaping."""
    assert fields_of(request(extra_body_json='{"\\u006dodel": "x"}')) == ["extra_body_json"]


def test_an_unknown_role_is_named_by_number():
    """A newer caller can see which value this service does not know."""
    [violation] = violations(request(messages=[message(77)]))
    assert violation.description == "77 is not a known value"


def test_all_violations_are_reported_together():
    """They come in the order of the checks, each with its path."""
    wrong = request(
        model="",
        temperature=3.0,
        messages=[
            message(chat.ROLE_UNSPECIFIED, name="x" * 257),
            message(content=[TEXT, chat.ContentPart(image=chat.Image(url="file:///x"))]),
            message(chat.ROLE_TOOL, [chat.ContentPart()], tool_call_id="c" * 16_385),
        ],
        fallback_models=["a", " "],
        tools=[tool("", parameters_json="{")],
        response_format=chat.ResponseFormat(),
        extra_body_json='{"stream": true, "model": "x"}',
    )
    assert fields_of(wrong) == [
        "model",
        "temperature",
        "fallback_models[1]",
        "messages[0].role",
        "messages[0].name",
        "messages[1].content[1].image.url",
        "messages[2].content[0]",
        "messages[2].tool_call_id",
        "tools[0].function.name",
        "tools[0].function.parameters_json",
        "response_format",
        "extra_body_json",
        "extra_body_json",
    ]


def test_the_message_has_the_first_violation_and_the_number_of_others():
    """Some gRPC stacks show only the message."""
    with pytest.raises(ServiceError) as raised:
        validate(request(model="", temperature=3.0, n=0), LIMITS)
    assert raised.value.message == (
        "model: must have 1 to 256 printable characters and no spaces (and 2 more)"
    )
    with pytest.raises(ServiceError) as raised:
        validate(request(temperature=3.0), LIMITS)
    assert raised.value.message == "temperature: must be 0 to 2"


def test_after_32_violations_the_rest_is_not_checked():
    """The last entry states this."""
    found = violations(request(messages=[message(77)] * 100))
    assert [f"messages[{number}].role" for number in range(33)] == [violation.field for violation in found]
    assert found[-1].description == "there are more violations: the rest of the request was not checked"
    assert len(violations(request(messages=[message(77)] * 32))) == 32


def test_a_request_above_its_size_is_too_large():
    """The size is that on the wire if it is known, and the serialised size otherwise."""
    good = request()
    validate(good, RequestLimits(max_request_bytes=good.ByteSize()))
    validate(good, RequestLimits(max_request_bytes=1), request_bytes=1)
    for wrong in (
        lambda: validate(good, RequestLimits(max_request_bytes=good.ByteSize() - 1)),
        lambda: validate(good, RequestLimits(max_request_bytes=100_000), request_bytes=100_001),
    ):
        with pytest.raises(ServiceError) as raised:
            wrong()
        assert raised.value.reason is Reason.REQUEST_TOO_LARGE


CANARY = "c4n4ry"


def test_no_description_repeats_the_callers_text():
    """Prompt text may be in any field by mistake, and a status may appear in logs of others."""
    wrong = request(
        model=f"{CANARY} {CANARY}",
        messages=[
            message(77, (), name=CANARY * 50, tool_call_id=CANARY * 200, reasoning_field=77),
            message(content=[chat.ContentPart(image=chat.Image(url=f"file:{CANARY}"))]),
            message(content=[chat.ContentPart(image=chat.Image(data=b"x", media_type=CANARY))]),
            message(content=[chat.ContentPart(audio=chat.Audio(data=b"x", format=CANARY * 20))]),
        ],
        stop=[CANARY * 200],
        logit_bias={CANARY: 1.0},
        reasoning_effort=f"{CANARY} ",
        safety_model=f"{CANARY} ",
        user=CANARY * 200,
        compliance=CANARY,
        prompt_cache_key=CANARY * 200,
        fallback_models=[f"{CANARY} "],
        tools=[tool(CANARY * 50, parameters_json=CANARY)],
        tool_choice=chat.ToolChoice(function_name=CANARY),
        response_format=chat.ResponseFormat(
            json_schema=chat.JsonSchemaFormat(name=CANARY * 50, schema_json=f'{{"{CANARY}": {CANARY}}}')
        ),
        extra_body_json=f'{{"{CANARY}": 1, "model": "{CANARY}"}}',
        chat_template_kwargs_json=f'"{CANARY}"',
    )
    with pytest.raises(ServiceError) as raised:
        validate(wrong, LIMITS)
    assert len(raised.value.violations) >= 22
    assert CANARY not in repr((raised.value, raised.value.violations))
    assert raised.value.__cause__ is None
