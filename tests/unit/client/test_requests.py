"""What the arguments of a call become."""

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
    """A field that is added to the contract is missed here at once."""
    fields = {field.name for field in service.CompleteRequest.DESCRIPTOR.fields}
    assert fields - {"model", "messages"} == set(CompleteFields.__annotations__)


def test_the_filters_of_models_are_the_fields_of_the_request():
    """Paging alone is the client's own business."""
    fields = {field.name for field in service.ListModelsRequest.DESCRIPTOR.fields}
    assert fields - {"page_token"} == set(ListFields.__annotations__)


def test_builders_name_the_role():
    """One word a role, in the order of a conversation."""
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


def test_a_tool_result_names_the_call_that_it_answers():
    """The id goes back as it came."""
    expected = chat.Message(role=chat.ROLE_TOOL, content=[chat.ContentPart(text="42")], tool_call_id="call-1")
    assert expected == tool_result("call-1", "42")


def test_a_conversation_may_mix_strings_and_messages():
    """A string is the user's turn; an answer is appended as it is."""
    request = complete_request("m", ["Hi", assistant("Hello."), user("And now?")])
    assert [user("Hi"), assistant("Hello."), user("And now?")] == list(request.messages)


def test_one_message_is_a_conversation():
    """So is one string."""
    assert [user("Hi")] == list(complete_request("m", user("Hi")).messages)


def test_an_explicit_zero_is_sent_and_what_is_unset_is_not():
    """Zero is a temperature; no word is none."""
    request = complete_request("m", "Hi", temperature=0.0)
    assert (True, False) == (request.HasField("temperature"), request.HasField("top_p"))


def test_a_ready_request_takes_nothing_beside_it():
    """Nobody should wonder which of two wins."""
    with pytest.raises(TypeError, match="ready CompleteRequest"):
        complete_request(service.CompleteRequest(model="m"), "Hi")


def test_a_picture_may_be_an_address():
    """It is handed on as it is."""
    assert chat.Image(url="https://example.com/a.png") == image("https://example.com/a.png")


def test_a_picture_may_be_bytes():
    """With the media type that nobody can guess for us."""
    assert chat.Image(data=PNG, media_type="image/png") == image(PNG, media_type="image/png")


def test_bytes_without_a_media_type_are_refused():
    """The service would refuse them too, later."""
    with pytest.raises(ValueError, match="media_type"):
        image(PNG)


def test_a_picture_may_be_a_file(tmp_path):
    """Its name tells its type."""
    path = tmp_path / "cat.PNG"
    path.write_bytes(PNG)
    assert chat.Image(data=PNG, media_type="image/png") == image(path)


def test_a_question_may_have_text_and_pictures_in_order():
    """The parts stand as they were given."""
    message = user("What is it?", image(PNG, media_type="image/png"), chat.Audio(data=b"a", format="wav"))
    assert ["text", "image", "audio"] == [part.WhichOneof("part") for part in message.content]


def test_a_schema_as_text_goes_out_byte_for_byte():
    """Order of keys and size of numbers are the author's."""
    text = '{ "b": 1, "a": 12345678901234567890 }'
    assert text == json_schema("s", text).json_schema.schema_json


def test_a_schema_as_a_mapping_keeps_its_order():
    """Reasoning before the answer is often the point of a schema."""
    schema = {"b": {"type": "string"}, "a": {}}
    assert ["b", "a"] == list(json.loads(function_tool("f", parameters=schema).function.parameters_json))


def test_an_unset_strict_stays_unset():
    """The provider's default is not ours to fix."""
    assert not function_tool("f").function.HasField("strict")


def test_text_of_an_answer_is_that_of_the_choice():
    """By its index, not by its place."""
    answer = service.CompleteResponse(
        choices=[
            chat.Choice(index=2, message=assistant("two")),
            chat.Choice(index=0, message=assistant("zero")),
        ]
    )
    assert ("zero", "two", "") == tuple(text_of(answer, choice_index=index) for index in (0, 2, 1))
