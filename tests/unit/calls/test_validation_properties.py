"""Validation accepts or rejects any input, and never fails in another way."""

from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation import RequestLimits, validate
from togetherchat_server.domain.reasons import Reason, ServiceError

LIMITS = RequestLimits()
TEXT = st.text(max_size=12) | st.sampled_from(["m", "a b", "{}", "[]", "{", "data:,", "https://h", "file:x"])
FIELDS = st.integers(0, 40)

PARTS = st.builds(chat.ContentPart, text=TEXT) | st.builds(
    chat.ContentPart,
    image=st.builds(chat.Image, url=TEXT)
    | st.builds(chat.Image, data=st.binary(max_size=3), media_type=TEXT),
)
CALLS = st.builds(
    chat.ToolCall, id=TEXT, function=st.none() | st.builds(chat.FunctionCall, name=TEXT, arguments=TEXT)
)
MESSAGES = st.builds(
    chat.Message,
    role=st.integers(-1, 7),
    content=st.lists(PARTS | st.just(chat.ContentPart()), max_size=3),
    name=TEXT,
    tool_calls=st.lists(CALLS, max_size=2),
    tool_call_id=TEXT,
    reasoning=TEXT,
    reasoning_field=st.integers(-1, 4),
)
REQUESTS = st.builds(
    service.CompleteRequest,
    model=TEXT,
    messages=st.lists(MESSAGES, max_size=4),
    temperature=st.none() | st.floats(),
    repetition_penalty=st.none() | st.floats(),
    top_k=st.none() | st.integers(-(2**31), 2**31 - 1),
    n=st.none() | st.integers(-(2**31), 2**31 - 1),
    stop=st.lists(TEXT, max_size=3),
    logit_bias=st.dictionaries(TEXT, st.floats(), max_size=3),
    tools=st.lists(
        st.builds(
            chat.Tool, function=st.none() | st.builds(chat.FunctionTool, name=TEXT, parameters_json=TEXT)
        ),
        max_size=3,
    ),
    tool_choice=st.none()
    | st.builds(chat.ToolChoice, mode=st.integers(0, 9))
    | st.builds(chat.ToolChoice, function_name=TEXT),
    response_format=st.none()
    | st.builds(chat.ResponseFormat, regex=TEXT)
    | st.builds(
        chat.ResponseFormat, json_schema=st.builds(chat.JsonSchemaFormat, name=TEXT, schema_json=TEXT)
    ),
    seed=st.none() | st.integers(0, 2**64 - 1),
    context_length_exceeded_behavior=st.integers(-1, 4),
    user=TEXT,
    chat_template_kwargs_json=TEXT,
    extra_body_json=TEXT,
    fallback_models=st.lists(TEXT, max_size=5),
)


def is_allowed(request: service.CompleteRequest) -> bool:
    """Return whether `request` passes. If not, check that its error is readable."""
    error = rejection(request)
    if error is None:
        return True
    assert error.reason is Reason.INVALID_REQUEST
    assert 1 <= len(error.violations) <= LIMITS.violations_max + 1
    assert all(
        violation.field.isprintable() and 0 < len(violation.description) <= 160
        for violation in error.violations
    )
    return False


def rejection(request: service.CompleteRequest) -> ServiceError | None:
    try:
        validate(request, LIMITS)
    except ServiceError as error:
        return error
    return None


def length_delimited(field: int, content: bytes) -> bytes:
    """Encode a field of wire type 2, so that random bytes parse beyond the first byte of a message."""
    tag, size = (field << 3) | 2, len(content)
    return bytes(part for part in (*varint(tag), *varint(size))) + content


def varint(number: int) -> list[int]:
    parts: list[int] = []
    while number > 127:
        parts.append((number & 127) | 128)
        number >>= 7
    return [*parts, number]


def nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    fields = st.builds(length_delimited, FIELDS.filter(bool), inner)
    scalars = st.builds(
        lambda field, value: bytes([*varint(field << 3), *varint(value)]),
        FIELDS.filter(bool),
        st.integers(0, 2**64 - 1),
    )
    return st.lists(fields | scalars, max_size=6).map(b"".join)


WIRE = st.recursive(st.binary(max_size=12), nested, max_leaves=12)


@settings(deadline=None, max_examples=300)
@given(request=REQUESTS)
def test_any_request_passes_or_is_rejected_by_name(request):
    """Only a ServiceError is raised. A second validation gives the same result and changes nothing."""
    before = request.SerializeToString(deterministic=True)
    assert is_allowed(request) == is_allowed(request)
    assert before == request.SerializeToString(deterministic=True)


@settings(deadline=None, max_examples=300)
@given(data=WIRE)
@example(data=service.CompleteRequest(model="m").SerializeToString() + b"\x12\x02\x08\x4d")
def test_any_bytes_that_parse_pass_or_are_rejected_by_name(data):
    """A hostile caller can send unknown fields, unknown enum values and duplicate fields."""
    request = service.CompleteRequest()
    try:
        request.ParseFromString(data)
    except DecodeError:
        return
    is_allowed(request)


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet='{}[]",:01eE.-\\u"ntf \n', max_size=60))
def test_any_json_text_passes_or_is_rejected_by_name(text):
    """The texts are random mixtures of JSON's characters."""
    request = service.CompleteRequest(
        model="m",
        messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="hi")])],
        extra_body_json=text,
    )
    if text:
        is_allowed(request)
    else:
        assert is_allowed(request)


@settings(deadline=None)
@given(
    text=TEXT,
    reasoning=TEXT,
    calls=st.lists(
        st.builds(
            chat.ToolCall,
            id=TEXT,
            function=st.builds(chat.FunctionCall, name=st.text(min_size=1, max_size=200), arguments=TEXT),
        ),
        max_size=3,
    ),
    field=st.sampled_from(chat.ReasoningField.values()),
)
def test_an_assistants_message_is_accepted_unchanged(text, reasoning, calls, field):
    """The text of a model, mistakes included, is never rejected in the next request."""
    content = [chat.ContentPart(text=text)] if text else []
    reply = chat.Message(
        role=chat.ROLE_ASSISTANT,
        content=content,
        reasoning=reasoning,
        reasoning_field=field,
        tool_calls=calls,
    )
    question = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="hi")])
    assert is_allowed(service.CompleteRequest(model="m", messages=[question, reply, question]))
