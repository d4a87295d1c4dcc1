"""Builders for the contract's messages, and `text_of` to read the text of a response.

Builders return the generated classes, without a wrapper. Fields without an argument here can be set
on the returned message.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client.openai_shapes import valid_text

MEDIA_TYPE_BY_SUFFIX: Final = {
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}


def system(text: str) -> chat.Message:
    """Return a system message: instructions for the whole conversation."""
    return _message(chat.ROLE_SYSTEM, text)


def developer(text: str) -> chat.Message:
    """Return a developer message: instructions from the developer."""
    return _message(chat.ROLE_DEVELOPER, text)


def user(*content: str | chat.Image | chat.Audio | chat.ContentPart) -> chat.Message:
    """Return a user message: text, images and audio, in order."""
    return _message(chat.ROLE_USER, *content)


def assistant(text: str) -> chat.Message:
    """Return an assistant message. The message of a response can be appended as it is."""
    return _message(chat.ROLE_ASSISTANT, text)


def tool_result(tool_call_id: str, text: str) -> chat.Message:
    """Return the result of a tool call. `tool_call_id` is the `ToolCall.id`."""
    message = _message(chat.ROLE_TOOL, text)
    message.tool_call_id = tool_call_id
    return message


def image(source: str | bytes | Path, *, media_type: str = "") -> chat.Image:
    """Return an image: an http, https or data URL, bytes, or a file to read.

    Raises:
        ValueError: bytes without a media type, or a file suffix of unknown type.
        OSError: the file cannot be read.
    """
    if isinstance(source, str):
        return chat.Image(url=source, media_type=media_type)
    if isinstance(source, bytes):
        return chat.Image(data=source, media_type=_required(media_type, "the bytes of an image"))
    media_type = media_type or MEDIA_TYPE_BY_SUFFIX.get(source.suffix.lower(), "")
    return chat.Image(data=source.read_bytes(), media_type=_required(media_type, source.name))


def function_tool(
    name: str,
    description: str = "",
    *,
    parameters: str | Mapping[str, object] | None = None,
    strict: bool | None = None,
) -> chat.Tool:
    """A function that the model may call. `parameters` is a JSON Schema; text is sent byte for byte."""
    function = chat.FunctionTool(
        name=name, description=description, parameters_json=_json(parameters), strict=strict
    )
    return chat.Tool(function=function)


def json_schema(
    name: str, schema: str | Mapping[str, object], *, description: str = "", strict: bool | None = None
) -> chat.ResponseFormat:
    """Return a response format: JSON that follows `schema`. Text is sent byte for byte."""
    form = chat.JsonSchemaFormat(name=name, description=description, schema_json=_json(schema), strict=strict)
    return chat.ResponseFormat(json_schema=form)


def text_of(source: service.CompleteResponse | chat.Message, *, choice_index: int = 0) -> str:
    """Return the text of a message, or of one choice of a response; empty if it has none."""
    if isinstance(source, chat.Message):
        return "".join(part.text for part in source.content)
    return "".join(text_of(choice.message) for choice in source.choices if choice.index == choice_index)


def _message(
    role: "chat.Role.ValueType", *content: str | chat.Image | chat.Audio | chat.ContentPart
) -> chat.Message:
    return chat.Message(role=role, content=[_part(each, index) for index, each in enumerate(content)])


def _part(content: str | chat.Image | chat.Audio | chat.ContentPart, index: int) -> chat.ContentPart:
    match content:
        case str():
            return chat.ContentPart(text=valid_text(content, f"content[{index}].text"))
        case chat.Image():
            return chat.ContentPart(image=content)
        case chat.Audio():
            return chat.ContentPart(audio=content)
        case chat.ContentPart():
            return content


def _required(media_type: str, source: str) -> str:
    if not media_type:
        raise ValueError(f"{source} needs media_type=, such as image/png")
    return media_type


def _json(value: str | Mapping[str, object] | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
