"""Small builders of the contract's own messages, and the shortest way to read an answer.

Nothing here wraps or copies a message: what a builder returns is the generated class, and
whatever a builder does not know can be set on it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service

MEDIA_TYPE_BY_SUFFIX: Final = {
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}


def system(text: str) -> chat.Message:
    """Instructions for the whole conversation."""
    return _message(chat.ROLE_SYSTEM, text)


def developer(text: str) -> chat.Message:
    """Instructions of the developer."""
    return _message(chat.ROLE_DEVELOPER, text)


def user(*content: str | chat.Image | chat.Audio | chat.ContentPart) -> chat.Message:
    """A question: text, pictures and recordings in order."""
    return _message(chat.ROLE_USER, *content)


def assistant(text: str) -> chat.Message:
    """An answer of the model. One that came from a call can be appended as it is."""
    return _message(chat.ROLE_ASSISTANT, text)


def tool_result(tool_call_id: str, text: str) -> chat.Message:
    """What a tool gave back, for the `ToolCall.id` that asked for it."""
    message = _message(chat.ROLE_TOOL, text)
    message.tool_call_id = tool_call_id
    return message


def image(source: str | bytes | Path, *, media_type: str = "") -> chat.Image:
    """A picture: an http, https or data URL, the bytes themselves, or a file to read.

    Raises:
        ValueError: bytes come without a media type, or the file's name tells none.
        OSError: the file cannot be read.
    """
    if isinstance(source, str):
        return chat.Image(url=source, media_type=media_type)
    if isinstance(source, bytes):
        return chat.Image(data=source, media_type=_known(media_type, "the bytes of an image"))
    media_type = media_type or MEDIA_TYPE_BY_SUFFIX.get(source.suffix.lower(), "")
    return chat.Image(data=source.read_bytes(), media_type=_known(media_type, source.name))


def function_tool(
    name: str,
    description: str = "",
    *,
    parameters: str | Mapping[str, object] | None = None,
    strict: bool | None = None,
) -> chat.Tool:
    """A function that the model may ask for. `parameters` is a JSON Schema; text goes out byte for byte."""
    function = chat.FunctionTool(
        name=name, description=description, parameters_json=_json(parameters), strict=strict
    )
    return chat.Tool(function=function)


def json_schema(
    name: str, schema: str | Mapping[str, object], *, description: str = "", strict: bool | None = None
) -> chat.ResponseFormat:
    """The answer must be JSON that follows `schema`; text goes out byte for byte."""
    form = chat.JsonSchemaFormat(name=name, description=description, schema_json=_json(schema), strict=strict)
    return chat.ResponseFormat(json_schema=form)


def text_of(answer: service.CompleteResponse | chat.Message, *, choice_index: int = 0) -> str:
    """The text of a message, or of one choice of an answer; empty where there is none."""
    if isinstance(answer, chat.Message):
        return "".join(part.text for part in answer.content)
    return "".join(text_of(choice.message) for choice in answer.choices if choice.index == choice_index)


def _message(
    role: "chat.Role.ValueType", *content: str | chat.Image | chat.Audio | chat.ContentPart
) -> chat.Message:
    return chat.Message(role=role, content=[_part(piece) for piece in content])


def _part(piece: str | chat.Image | chat.Audio | chat.ContentPart) -> chat.ContentPart:
    match piece:
        case str():
            return chat.ContentPart(text=piece)
        case chat.Image():
            return chat.ContentPart(image=piece)
        case chat.Audio():
            return chat.ContentPart(audio=piece)
        case chat.ContentPart():
            return piece


def _known(media_type: str, what: str) -> str:
    if not media_type:
        raise ValueError(f"{what} needs media_type=, such as image/png")
    return media_type


def _json(value: str | Mapping[str, object] | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
