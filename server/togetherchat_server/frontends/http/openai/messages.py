"""Translates the messages of OpenAI's chat API to messages of the contract."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.frontends.http.openai import schema
from togetherchat_server.frontends.http.openai.functions import as_tool_calls
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
    "function": chat.ROLE_TOOL,
}


def to_message(source: schema.RequestMessage, ignored: IgnoredMembers) -> chat.Message:
    """Translate one message. Raises `ServiceError` INVALID_REQUEST."""
    message = chat.Message(role=ROLES[source.role])
    if isinstance(source.content, str):
        message.content.add().text = source.content
    elif source.content is not None:
        _add_parts(message, source.content, ignored)
    if source.name is not None:
        message.name = source.name
    if source.tool_call_id is not None:
        message.tool_call_id = source.tool_call_id
    message.tool_calls.extend([_tool_call(call, ignored) for call in as_tool_calls(source, ignored)])
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


def _add_parts(
    message: chat.Message, parts: Sequence[schema.RequestContentPart], ignored: IgnoredMembers
) -> None:
    """Add the parts of a content. The contract has fields of their own for reasoning and a refusal."""
    for part in parts:
        match part:
            case schema.RequestContentPart(type="thinking", thinking=str(text)):
                message.reasoning += text
            case schema.RequestContentPart(type="thinking", thinking=list(texts)):
                message.reasoning += "".join(each.text for each in texts)
            case schema.RequestContentPart(type="refusal", refusal=str(text)):
                message.refusal += text
            case _:
                message.content.append(_part(part, ignored))
                continue
        ignored.add_extra("messages[].content[]", part)
    if message.reasoning:
        message.reasoning_field = chat.REASONING_FIELD_REASONING


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
