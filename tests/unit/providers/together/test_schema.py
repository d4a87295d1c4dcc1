"""Parsing Together's JSON: what is strict, what is lenient, and what must never pass."""

import json
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.providers.together import models, schema
from togetherchat_server.providers.together.error_body import ErrorBody
from togetherchat_server.providers.together.response import from_schema
from togetherchat_server.providers.together.split_characters import whole
from togetherchat_server.providers.together.stream import ChatStreamTranslator

CHUNK = b'{"choices":[{"index":0,"delta":{"content":%s}}],"extra":%s}'

MALFORMED = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xff\xfe", id="not text"),
    pytest.param(b"<html>", id="HTML"),
    pytest.param(b'{"choices":[', id="cut"),
    pytest.param(b"{} {}", id="two values"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="array"),
    pytest.param(b'"text"', id="text"),
    pytest.param(b"[" * 100_000 + b"]" * 100_000, id="100,000 nested arrays"),
    pytest.param(b'{"x":' * 100_000 + b"1" + b"}" * 100_000, id="100,000 nested objects"),
    pytest.param(b'{"created":' + b"9" * 5_000 + b"}", id="integer of 5,000 digits"),
    pytest.param(b'{"choices":{}}', id="choices not an array"),
    pytest.param(b'{"choices":[1]}', id="choice not an object"),
]


@pytest.mark.parametrize("body", MALFORMED)
@pytest.mark.parametrize("parse", [schema.parse_chunk, schema.parse_completion])
def test_malformed(parse, body: bytes):
    """JSON of an unexpected shape fails with one reason and one message."""
    with pytest.raises(ServiceError) as failure:
        parse(body)

    assert (
        Reason.UPSTREAM_MALFORMED_RESPONSE,
        "the provider's response is not JSON of the expected shape",
    ) == (
        failure.value.reason,
        failure.value.message,
    )


@pytest.mark.parametrize("field", ["content", "reasoning", "reasoning_content", "tool_calls"])
@pytest.mark.parametrize("value", [1, True, {"a": 1}, [1]])
def test_fields_of_the_completion_are_strict(field: str, value: object):
    """A field with the wrong shape makes the chunk malformed; it is not left out."""
    with pytest.raises(ServiceError):
        schema.parse_chunk(json.dumps({"choices": [{"delta": {field: value}}]}).encode())


def test_a_choice_without_a_message_is_malformed():
    """A choice must contain its message."""
    with pytest.raises(ServiceError):
        schema.parse_completion(b'{"choices":[{"index":0,"finish_reason":"stop"}]}')


@pytest.mark.parametrize("value", [None, [], [[1]], {"a": 1}, -1, 1.5, True])
def test_informing_fields_are_lenient(value: object):
    """A completion is not lost over a field beside it."""
    names = ("id", "object", "created", "model", "system_fingerprint", "usage", "warnings")
    beside = dict.fromkeys(names, value)

    chunk = schema.parse_chunk(json.dumps({**beside, "choices": [{"delta": {"content": "Hi"}}]}).encode())

    assert chunk.choices is not None
    assert chunk.choices[0].delta is not None
    assert chunk.choices[0].delta.content == "Hi"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\uD83D\\uDE00"', "\U0001f600"),
        (b'"\\ud83d"', "\ufffd"),
        (b'"\\ude00\\ud83d"', "\ufffd\ufffd"),
        (b'"\\ud83d\\ud83d\\ude00"', "\ufffd\U0001f600"),
        (b'"\\ud83dx\\n\\ude00"', "\ufffdx\n\ufffd"),
        (b'"\\\\ud83d \\ud83d"', "\\ud83d \ufffd"),
        (b'"\\\\\\ud83d"', "\\\ufffd"),
        (b'"\xed\xa0\xbd"', "\ufffd\ufffd\ufffd"),
        (b'"a\xffb"', "a\ufffdb"),
        (b'"\xf0\x9f\x98"', "\ufffd"),
        ('"\u2028\u0085\U0001f600"'.encode(), "\u2028\u0085\U0001f600"),
        (b'"\\u0000\\u2028"', "\x00\u2028"),
    ],
)
def test_half_characters_are_repaired(raw: bytes, expected: str):
    """Surrogate pairs are joined, other halves become U+FFFD, and the text can be encoded."""
    chunk = schema.parse_chunk(CHUNK % (raw, b"0"))
    completion = schema.parse_completion(b'{"choices":[{"message":{"content":%s}}]}' % raw)

    assert chunk.choices is not None
    assert chunk.choices[0].delta is not None
    assert chunk.choices[0].delta.content is not None
    assert completion.choices is not None
    assert completion.choices[0].message is not None
    assert expected == completion.choices[0].message.content
    assert expected == whole(chunk.choices[0].delta.content)
    assert expected.encode()


def test_a_half_character_is_kept_for_the_next_chunk():
    """The texts of a chunk keep halves; all other members have U+FFFD."""
    half = b'"\\ud83d"'
    call = b'{"id":%s,"function":{"name":%s,"arguments":%s}}' % (half, half, half)
    delta = b'{"content":%s,"reasoning":%s,"tool_calls":[%s]}' % (half, half, call)
    chunk = schema.parse_chunk(b'{"id":%s,"choices":[{"finish_reason":%s,"delta":%s}]}' % (half, half, delta))

    assert chunk.choices is not None
    (choice,) = chunk.choices
    assert choice.delta is not None
    assert choice.delta.tool_calls is not None
    (call,) = choice.delta.tool_calls
    assert call.function is not None
    kept = (choice.delta.content, choice.delta.reasoning, call.function.arguments)
    assert ("\ud83d",) * 3 == kept
    assert ("\ufffd",) * 4 == (chunk.id, choice.finish_reason, call.id, call.function.name)


def test_a_byte_order_mark_is_skipped():
    """Some servers write a byte order mark before their JSON."""
    assert schema.parse_chunk(b'\xef\xbb\xbf{"id":"a"}').id == "a"


def test_the_last_of_two_keys_counts():
    """The last of two equal keys wins, as in Together's own clients, also in repaired text."""
    assert schema.parse_chunk(b'{"id":"a","id":"b"}').id == "b"
    assert schema.parse_chunk(b'{"id":"a","model":"\\ud83d","id":"b"}').id == "b"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"0", 0),
        (b"18446744073709551615", 2**64 - 1),
        (b"17598938344439790000", 17598938344439790000),
        (b"1.5924764223251450000e19", 15924764223251450000),
        (b"15924764223251450000.0", 15924764223251450000),
        (b"7.0", 7),
        (b"null", None),
        (b"18446744073709551616", None),
        (b"1.8446744073709552e19", None),
        (b"-1", None),
        (b"0.5", None),
        (b"NaN", None),
        (b"-Infinity", None),
        (b"1e999", None),
        (b'"7"', None),
        (b"[7]", None),
    ],
)
def test_seed(raw: bytes, expected: int | None):
    """Any seed that fits a uint64 is read, however it is written; others read as absent."""
    chunk = schema.parse_chunk(b'{"choices":[{"seed":%s}]}' % raw)

    assert chunk.choices is not None
    assert expected == chunk.choices[0].seed


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (schema.parse_completion, b'{"choices":[{"message":{"content":["%s"]}}]}'),
        (schema.parse_completion, b'{"choices":[], "%s": %s'),
        (schema.parse_models, b'"%s"'),
        (schema.parse_models, b'{"data":"%s"}'),
        (schema.parse_models, b"%s"),
    ],
)
def test_nothing_of_the_body_is_in_the_failure(parse, body: bytes):
    """Neither the error nor its causes, as a log would print them, contain the body."""
    prompt = b"ca" + b"nary"  # split, because a traceback prints the lines of this file

    with pytest.raises(ServiceError) as failure:
        parse(body.replace(b"%s", prompt))

    assert failure.value.__cause__ is not None
    assert prompt.decode() not in "".join(traceback.format_exception(failure.value))


PARSERS = {
    "chunk": (schema.parse_chunk, '{"id":"%s"}'),
    "completion": (schema.parse_completion, '{"id":"%s"}'),
    "error": (schema.parse_error, '{"message":"%s"}'),
    "models": (schema.parse_models, '[{"id":"%s"}]'),
}


@pytest.mark.parametrize("parser", PARSERS)
def test_texts_are_not_cached(parser: str):
    """No text of a response stays in a cache of the parser."""
    parse, body = PARSERS[parser]

    def blocks_after(texts: range) -> int:
        for number in texts:
            parse((body % f"{parser} {number}").encode())
        return sys.getallocatedblocks()

    before = blocks_after(range(100))

    assert blocks_after(range(100, 2100)) - before < 500


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"data":{}}', b'"text"', b"<html>", b'{"error":"no"}', b"[" * 100_000]
)
def test_malformed_models(body: bytes):
    """A body that is not a model list fails."""
    with pytest.raises(ServiceError) as failure:
        schema.parse_models(body)

    assert Reason.UPSTREAM_MALFORMED_RESPONSE == failure.value.reason


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"id":"r","error":{"message":"m","type":"t","param":null,"code":"c"}}',
            {"message": "m", "type": "t", "code": "c"},
        ),
        (b'{"error":{"message":"m","code":null}}', {"message": "m"}),
        (
            b'{"error":{"message":"m","code":503,"status":502}}',
            {"message": "m", "code": "503", "status": 502},
        ),
        (b'{"model":"x","request_id":"r","error":"text"}', {"message": "text"}),
        (b'{"message":"m","type":"t"}', {"message": "m", "type": "t"}),
        (b'{"error":{"message":"m"},"error_type":"e"}', {"message": "m", "error_type": "e"}),
        (b'{"detail":"m"}', {"message": "m"}),
        (b'{"detail":[{"msg":"m"}]}', {"message": "m"}),
        (
            b'{"detail":[{"loc":["body","messages",0,"content"],"msg":"field required","type":"missing"}]}',
            {"message": "messages[0].content: field required", "param": "messages[0].content"},
        ),
        (
            b'{"detail":[{"loc":["body","a"],"msg":"x"},{"loc":["body","b"],"msg":"y"},7,null,{}]}',
            {"message": "a: x; b: y", "param": "a"},
        ),
        (b'{"detail":{"message":"m"}}', {"message": "m"}),
        (
            b'[{"error":{"message":"m","code":400,"status":"INVALID_ARGUMENT"}}]',
            {"message": "m", "code": "400"},
        ),
        (b'{"errors":[{"message":"m","code":7003}]}', {"message": "m"}),
        (b'{"errors":["m","n"]}', {"message": "m; n"}),
        (
            b'{"errors":[{"detail":"m","source":{"pointer":"/messages/0/content"}}]}',
            {"message": "messages[0].content: m", "param": "messages[0].content"},
        ),
        (
            b'{"title":"Invalid","status":400,"errors":{"Model":["is required"]}}',
            {"message": "Invalid: Model: is required", "param": "Model", "status": 400},
        ),
        (b'{"error":{"message":"m","param":"top_p"}}', {"message": "m", "param": "top_p"}),
        (b'{"error":{"message":"m"},"param":"top_p"}', {"message": "m", "param": "top_p"}),
        (b'{"error":{"message":"m","param":["messages",1]}}', {"message": "m", "param": "messages[1]"}),
        (b'{"error":{"message":"m","param":7}}', {"message": "m"}),
        (b'{"error_description":"m","error":"invalid_request"}', {"message": "invalid_request"}),
        (b'{"error":{"message":{"a":1},"type":[],"code":true}}', {}),
        (b'{"error":["m"]}', {"message": "m"}),
        (b'{"error":[{"message":"m","code":1}]}', {"message": "m", "code": "1"}),
        (b'{"error":[[]]}', {}),
        (b'{"error":7}', {}),
        (b'{"error":null}', {}),
        (b"{}", {}),
        (b'{"error":"a\\ud83d\xff"}', {"message": "a\ufffd\ufffd"}),
    ],
)
def test_error_body(body: bytes, expected: dict[str, object]):
    """Every observed shape of an error is parsed."""
    error = schema.parse_error(body)

    assert error is not None
    assert expected == {name: value for name, value in asdict(error).items() if value not in ("", None)}


@pytest.mark.parametrize(
    "body", [b"", b"upstream failed", b"<html></html>", b'"text"', b"[]", b"404", b"[" * 100_000]
)
def test_error_body_that_is_not_a_json_object(body: bytes):
    """Text, pages and empty bodies come from a gateway, not from Together."""
    assert schema.parse_error(body) is None


NUMBER = (
    st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, -1, 1e308])
)
SCALAR = st.none() | st.booleans() | NUMBER | st.sampled_from(["", "stop", "a\u2028", "\ud83d", "\U0001f600"])
SHAPES = (
    schema.Completion,
    schema.Chunk,
    schema.ResponseChoice,
    schema.ChunkChoice,
    schema.ResponseMessage,
    schema.ResponseToolCall,
    schema.ResponseFunction,
)
PARTS = (
    schema.ResponseUsage,
    schema.ResponseLogprobs,
    schema.TokenLogprobEntry,
    schema.ResponsePrompt,
    schema.ModelEntry,
    schema.ModelPricing,
)
ERROR_KEYS = {"data", "detail", "errors", "loc", "msg", *(field.name for field in fields(ErrorBody))}
KEYS = st.sampled_from(sorted(ERROR_KEYS | {name for shape in SHAPES + PARTS for name in shape.model_fields}))
ANYTHING = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
LOGPROBS = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.lists(st.sampled_from(["a", "\ud83d"]), max_size=2) | ANYTHING,
        "token_logprobs": st.lists(SCALAR, max_size=2),
        "token_ids": st.lists(SCALAR, max_size=2),
        "top_logprobs": st.lists(st.dictionaries(st.just("a"), SCALAR), max_size=2)
        | st.dictionaries(KEYS, SCALAR),
        "content": st.lists(
            st.fixed_dictionaries({"token": SCALAR}, optional={"logprob": SCALAR}), max_size=2
        ),
    },
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"index": SCALAR, "id": SCALAR, "function": st.dictionaries(KEYS, SCALAR)}
    ),
    max_size=3,
)
MESSAGE = st.fixed_dictionaries({}, optional={"content": SCALAR, "token_id": SCALAR, "tool_calls": CALLS})
CHOICE = st.fixed_dictionaries(
    {"delta": MESSAGE, "message": MESSAGE},
    optional={"index": SCALAR, "seed": SCALAR, "finish_reason": SCALAR, "logprobs": LOGPROBS | SCALAR},
)
USAGE = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"]), SCALAR
)
RESPONSE = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=3)},
    optional={"id": SCALAR, "created": SCALAR, "model": SCALAR, "usage": USAGE, "warnings": ANYTHING},
)


@settings(max_examples=60, deadline=None)
@given(RESPONSE | ANYTHING)
def test_any_json_is_translated_or_rejected(value: object):
    """Whatever the fields contain, the result is messages that can be sent, or a ServiceError."""
    body = json.dumps(value).encode()
    translator = ChatStreamTranslator()
    with suppress(ServiceError):
        translator.feed(schema.parse_chunk(body))
        translator.finish(done=True, attempts=1)
    for event in translator.pop_events():
        assert event.SerializeToString()
    with suppress(ServiceError):
        assert from_schema(schema.parse_completion(body)).SerializeToString()
    with suppress(ServiceError):
        for model in models.from_schema(schema.parse_models(body)):
            assert model.SerializeToString()
    schema.parse_error(body)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=30).map(lambda data: b'{"error":"' + data + b'"}'))
def test_any_bytes_are_parsed_or_rejected(body: bytes):
    """Bytes that are not JSON lead to a ServiceError and no other exception."""
    schema.parse_error(body)
    for parse in (schema.parse_chunk, schema.parse_completion, schema.parse_models):
        with suppress(ServiceError):
            parse(body)
