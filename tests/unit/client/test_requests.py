"""Tests of the request builders."""

import json

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import (
    assistant,
    developer,
    function_tool,
    image,
    json_schema,
    system,
    text_of,
    tool_result,
    user,
)
from togetherchat_client.requests import CompleteFields, ListFields, complete_request

PNG = b"\x89PNG\r\n"


def test_the_arguments_of_complete_are_the_fields_of_the_request():
    """A field that is added to the contract must be added to CompleteFields."""
    fields = {field.name for field in service.CompleteRequest.DESCRIPTOR.fields}
    assert fields - {"model", "messages"} == set(CompleteFields.__annotations__)


def test_the_filters_of_models_are_the_fields_of_the_request():
    """Only `page_token` is missing: the client sets it."""
    fields = {field.name for field in service.ListModelsRequest.DESCRIPTOR.fields}
    assert fields - {"page_token"} == set(ListFields.__annotations__)


def test_builders_name_the_role():
    """Each builder sets its own role."""
    roles = [
        each.role for each in (system("s"), developer("d"), user("u"), assistant("a"), tool_result("t", "r"))
    ]
    assert roles == [
        chat.ROLE_SYSTEM,
        chat.ROLE_DEVELOPER,
        chat.ROLE_USER,
        chat.ROLE_ASSISTANT,
        chat.ROLE_TOOL,
    ]


def test_a_tool_result_has_the_id_of_its_call():
    """The id of the tool call is not changed."""
    expected = chat.Message(role=chat.ROLE_TOOL, content=[chat.ContentPart(text="42")], tool_call_id="call-1")
    assert expected == tool_result("call-1", "42")


def test_a_conversation_may_mix_strings_and_messages():
    """A string is a user message. Messages are appended unchanged."""
    request = complete_request("m", ["Hi", assistant("Hello."), user("And now?")])
    assert [user("Hi"), assistant("Hello."), user("And now?")] == list(request.messages)


def test_one_message_is_a_conversation():
    """One message can be given in place of a list."""
    assert [user("Hi")] == list(complete_request("m", user("Hi")).messages)


def test_an_explicit_zero_is_sent_and_an_unset_field_is_not():
    """`temperature=0.0` sets the field."""
    request = complete_request("m", "Hi", temperature=0.0)
    assert (True, False) == (request.HasField("temperature"), request.HasField("top_p"))


def test_a_request_cannot_be_combined_with_messages():
    """It would be unclear which of the two is used."""
    with pytest.raises(TypeError, match="a CompleteRequest cannot be combined"):
        complete_request(service.CompleteRequest(model="m"), "Hi")


def test_an_image_may_be_a_url():
    """The URL is not changed."""
    assert chat.Image(url="https://example.com/a.png") == image("https://example.com/a.png")


def test_an_image_may_be_bytes():
    """Bytes need a media type."""
    assert chat.Image(data=PNG, media_type="image/png") == image(PNG, media_type="image/png")


def test_bytes_without_a_media_type_are_rejected():
    """The error is raised before the call."""
    with pytest.raises(ValueError, match="media_type"):
        image(PNG)


def test_an_image_may_be_a_file(tmp_path):
    """The suffix of the file determines the media type."""
    path = tmp_path / "cat.PNG"
    path.write_bytes(PNG)
    assert chat.Image(data=PNG, media_type="image/png") == image(path)


def test_a_user_message_keeps_the_order_of_its_parts():
    """Text, images and audio are sent in the order of the arguments."""
    message = user("What is it?", image(PNG, media_type="image/png"), chat.Audio(data=b"a", format="wav"))
    assert ["text", "image", "audio"] == [part.WhichOneof("part") for part in message.content]


def test_a_schema_given_as_text_is_sent_byte_for_byte():
    """The order of keys and the size of numbers are kept."""
    text = '{ "b": 1, "a": 12345678901234567890 }'
    assert text == json_schema("s", text).json_schema.schema_json


def test_a_schema_as_a_mapping_keeps_its_order():
    """The order of properties can matter: a model often has to reason before it concludes."""
    schema = {"b": {"type": "string"}, "a": {}}
    assert ["b", "a"] == list(json.loads(function_tool("f", parameters=schema).function.parameters_json))


def test_an_unset_strict_stays_unset():
    """The provider's default applies."""
    assert not function_tool("f").function.HasField("strict")


def test_text_of_selects_a_choice_by_its_index():
    """The position in the list of choices does not matter."""
    response = service.CompleteResponse(
        choices=[
            chat.Choice(index=2, message=assistant("two")),
            chat.Choice(index=0, message=assistant("zero")),
        ]
    )
    assert ("zero", "two", "") == tuple(text_of(response, choice_index=index) for index in (0, 2, 1))
