"""The count of a serialised message's fields, on messages of the contract and on invalid bytes."""

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.frontends.grpc.wire_elements import wire_elements

REQUEST = service.CompleteRequest


def count(data, message=REQUEST):
    return sum(wire_elements(data, message.DESCRIPTOR))


def conversation(messages, parts):
    content = [chat.ContentPart(text="x") for _ in range(parts)]
    return REQUEST(
        model="m", messages=[chat.Message(role=chat.ROLE_USER, content=content) for _ in range(messages)]
    )


@pytest.mark.parametrize(("messages", "parts"), [(0, 0), (1, 1), (3, 2), (40, 30)])
def test_nested_fields_are_counted(messages, parts):
    """A message counts itself, its role, and each of its parts with its text."""
    data = conversation(messages, parts).SerializeToString()

    assert 1 + messages * (2 + 2 * parts) == count(data)


def test_a_map_is_counted_by_its_entries():
    """An entry has a key and a value."""
    data = REQUEST(logit_bias={str(number): 1.0 for number in range(100)}).SerializeToString()

    assert 300 == count(data)


def test_a_long_text_is_one_field():
    """The length of a text does not matter."""
    assert 1 == count(REQUEST(model="x" * 1_000_000).SerializeToString())


@pytest.mark.parametrize(
    "unit",
    [
        b"\x12\x00",  # an empty message
        b"\x0a\x00",  # an empty name of a model
        b"\xfa\x3f\x00",  # an unknown field
        b"\xf8\x3f\x01",
        b"\xfb\x3f\xfc\x3f",  # an unknown group
    ],
)
def test_small_fields_are_counted_at_any_depth(unit):
    """Empty messages, repeated and unknown fields, at the top and within a message."""
    nested = unit * 10_000
    length = len(nested)
    varint = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])

    assert 10_000 <= count(unit * 10_000)
    assert 10_000 <= count(b"\x12" + varint + nested)


@given(st.binary(max_size=200))
def test_any_bytes_are_counted(data):
    """The scanner ends, and counts at least one element for each field of what a parser accepts."""
    elements = count(data)
    try:
        parsed = REQUEST.FromString(data)
    except DecodeError:
        return
    assert len(parsed.messages) + len(parsed.tools) + len(parsed.stop) <= elements


def test_no_request_has_a_packed_field():
    """A packed field would hold many numbers in one field: the scanner does not count them."""
    seen, waiting = set(), [REQUEST.DESCRIPTOR, service.ListModelsRequest.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        for field in message.fields:
            if field.message_type is not None:
                waiting.append(field.message_type)
            elif field.is_repeated:
                assert field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
