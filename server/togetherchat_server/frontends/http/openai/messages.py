"""Translates the messages of OpenAI's chat API to messages of the contract."""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.frontends.http.openai import schema
from togetherchat_server.frontends.http.openai.unsupported import (
    REJECTED_IN_MESSAGES,
    IgnoredMembers,
    invalid,
    reject_members,
)

ROLES: Final[Mapping[str, chat.Role.ValueType]] = {
    "system": chat.ROLE_SYSTEM,
    "developer": chat.ROLE_DEVELOPER,
    "user": chat.ROLE_USER,
    "assistant": chat.ROLE_ASSISTANT,
    "tool": chat.ROLE_TOOL,
}


def to_message(source: schema.RequestMessage, ignored: IgnoredMembers) -> chat.Message:
    """Translate one message. Raises `ServiceError` INVALID_REQUEST."""
    message = chat.Message(role=ROLES[source.role])
    if isinstance(source.content, str):
        message.content.add().text = source.content
    elif source.content is not None:
        message.content.extend([_part(part, ignored) for part in source.content])
    if source.name is not None:
        message.name = source.name
    if source.tool_call_id is not None:
        message.tool_call_id = source.tool_call_id
    if source.tool_calls:
        message.tool_calls.extend([_tool_call(call, ignored) for call in source.tool_calls])
    if source.reasoning:
        message.reasoning = source.reasoning
        message.reasoning_field = chat.REASONING_FIELD_REASONING
    elif source.reasoning_content:
        message.reasoning = source.reasoning_content
        message.reasoning_field = chat.REASONING_FIELD_REASONING_CONTENT
    if source.refusal:
        message.refusal = source.refusal
    if source.model_extra:
        reject_members(source.extra(), REJECTED_IN_MESSAGES, "messages[].")
        ignored.add_extra("messages[]", source)
    return message


def _part(part: schema.RequestContentPart, ignored: IgnoredMembers) -> chat.ContentPart:
    ignored.add_extra("messages[].content[]", part)
    match part:
        case schema.RequestContentPart(type="text", text=str(text)):
            return chat.ContentPart(text=text)
        case schema.RequestContentPart(type="image_url", image_url=schema.RequestImageUrl(url=url)):
            return chat.ContentPart(image=chat.Image(url=url))
        case schema.RequestContentPart(type="video_url", video_url=schema.RequestMediaUrl(url=url)):
            return chat.ContentPart(video_url=url)
        case schema.RequestContentPart(type="audio_url", audio_url=schema.RequestMediaUrl(url=url)):
            return chat.ContentPart(audio_url=url)
        case schema.RequestContentPart(type="input_audio", input_audio=schema.RequestInputAudio() as audio):
            return chat.ContentPart(audio=chat.Audio(data=_audio_data(audio.data), format=audio.format))
        case _:
            raise invalid(
                "messages[].content[]", f"a part of type {part.type} must have the member {part.type}"
            )


def _audio_data(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("messages[].content[].input_audio.data", "must be base64") from None


def _tool_call(call: schema.RequestToolCall, ignored: IgnoredMembers) -> chat.ToolCall:
    ignored.add_extra("messages[].tool_calls[]", call)
    arguments = call.function.arguments
    if isinstance(arguments, dict):
        arguments = schema.to_json(arguments)
    function = chat.FunctionCall(name=call.function.name, arguments=arguments or "")
    return chat.ToolCall(id=call.id or "", function=function)
