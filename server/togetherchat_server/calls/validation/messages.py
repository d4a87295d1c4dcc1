"""The rules of a conversation: what each role may say, and the shape of each part."""

from collections.abc import Sequence
from typing import Final, assert_never

from togetherchat.v1 import chat_pb2 as chat

from togetherchat_server.calls.validation.findings import Findings
from togetherchat_server.calls.validation.limits import RequestLimits
from togetherchat_server.calls.validation.texts import (
    check_count,
    check_length,
    check_url,
    is_audio_format,
    is_media_type,
)

ROLES: Final = frozenset(chat.Role.values()) - {chat.ROLE_UNSPECIFIED}
_PLAIN_ROLES: Final = ROLES - {chat.ROLE_TOOL}
REASONING_KEYS: Final = frozenset({"", "reasoning", "reasoning_content"})

_TEXT_ONLY: Final = "may be text alone: other parts are for ROLE_USER"
_ASSISTANT_ONLY: Final = "is for ROLE_ASSISTANT alone"


def check_messages(messages: Sequence[chat.Message], limits: RequestLimits, findings: Findings) -> None:
    if not messages:
        findings.add("messages", "must have at least one entry")
    if not check_count("messages", messages, limits.messages_max, findings):
        return
    pieces = 0
    for index, message in enumerate(messages):
        if _is_plain(message):
            continue
        pieces += len(message.content) + len(message.tool_calls)
        if pieces > limits.pieces_max:
            findings.add("messages", f"may have {limits.pieces_max} parts and tool calls together")
            return
        _check_message(f"messages[{index}]", message, limits, findings)


def _is_plain(message: chat.Message) -> bool:
    """One text and nothing else: true of most messages, and told in 1 us.

    Going through all the rules takes 3 us, most of it spent by protobuf on making an object
    for each field of a message that is read.
    """
    content = message.content
    return (
        message.role in _PLAIN_ROLES
        and len(content) == 1
        and content[0].WhichOneof("part") == "text"
        and not (message.name or message.reasoning or message.reasoning_key)
        and not (message.tool_call_id or message.tool_calls)
    )


def _check_message(place: str, message: chat.Message, limits: RequestLimits, findings: Findings) -> None:
    role = message.role
    if role == chat.ROLE_UNSPECIFIED:
        findings.add(f"{place}.role", "is required")
    elif role not in ROLES:
        findings.add(f"{place}.role", f"{role:d} is no known value")
    else:
        _check_role(place, message, findings)
    if check_count(f"{place}.content", message.content, limits.parts_per_message_max, findings):
        _check_content(place, message, limits, findings)
    if message.name:
        _check_name(f"{place}.name", message.name, limits, findings)
    if message.tool_call_id:
        check_length(f"{place}.tool_call_id", message.tool_call_id, limits.id_characters_max, findings)
    if message.reasoning_key not in REASONING_KEYS:
        findings.add(f"{place}.reasoning_key", "must be empty, reasoning or reasoning_content")
    if message.tool_calls:
        _check_tool_calls(f"{place}.tool_calls", message.tool_calls, limits, findings)


def _check_name(place: str, name: str, limits: RequestLimits, findings: Findings) -> None:
    if not name.isprintable():
        findings.add(place, "must be printable")
    check_length(place, name, limits.name_characters_max, findings)


def _check_role(place: str, message: chat.Message, findings: Findings) -> None:
    """What one role must have and the others must not."""
    role = message.role
    if role == chat.ROLE_TOOL:
        if not message.tool_call_id:
            findings.add(f"{place}.tool_call_id", "is required on ROLE_TOOL")
    elif message.tool_call_id:
        findings.add(f"{place}.tool_call_id", "is for ROLE_TOOL alone")
    if role == chat.ROLE_ASSISTANT:
        return
    if not message.content:
        findings.add(f"{place}.content", "may be empty on ROLE_ASSISTANT alone")
    if message.tool_calls:
        findings.add(f"{place}.tool_calls", _ASSISTANT_ONLY)
    if message.reasoning:
        findings.add(f"{place}.reasoning", _ASSISTANT_ONLY)
    if message.reasoning_key:
        findings.add(f"{place}.reasoning_key", _ASSISTANT_ONLY)


def _check_content(place: str, message: chat.Message, limits: RequestLimits, findings: Findings) -> None:
    text_only = message.role != chat.ROLE_USER and message.role in ROLES
    for index, part in enumerate(message.content):
        kind = part.WhichOneof("part")
        if kind == "text":
            continue
        if text_only and kind is not None:
            findings.add(f"{place}.content[{index}]", _TEXT_ONLY)
        _check_part(f"{place}.content[{index}]", part, limits, findings)


def _check_part(place: str, part: chat.ContentPart, limits: RequestLimits, findings: Findings) -> None:
    kind = part.WhichOneof("part")
    match kind:
        case "text":
            pass
        case "image":
            _check_image(f"{place}.image", part.image, limits, findings)
        case "video_url":
            check_url(f"{place}.video_url", part.video_url, limits, findings)
        case "audio_url":
            check_url(f"{place}.audio_url", part.audio_url, limits, findings)
        case "audio":
            _check_audio(f"{place}.audio", part.audio, findings)
        case None:
            findings.add(place, "must have one of text, image, video_url, audio_url, audio")
        case _:
            assert_never(kind)


def _check_image(place: str, image: chat.Image, limits: RequestLimits, findings: Findings) -> None:
    source = image.WhichOneof("source")
    match source:
        case "url":
            check_url(f"{place}.url", image.url, limits, findings)
        case "data":
            if not image.data:
                findings.add(f"{place}.data", "must not be empty")
            if not is_media_type(image.media_type):
                findings.add(f"{place}.media_type", "must be a media type such as image/png")
        case None:
            findings.add(place, "must have one of url, data")
        case _:
            assert_never(source)


def _check_audio(place: str, audio: chat.Audio, findings: Findings) -> None:
    if not audio.data:
        findings.add(f"{place}.data", "is required")
    if not is_audio_format(audio.format):
        findings.add(f"{place}.format", "must be a format such as wav: 1 to 32 of a-z 0-9")


def _check_tool_calls(
    place: str, calls: Sequence[chat.ToolCall], limits: RequestLimits, findings: Findings
) -> None:
    """Calls as a model wrote them: neither their names nor their arguments are ours to correct."""
    if not check_count(place, calls, limits.tool_calls_per_message_max, findings):
        return
    for index, call in enumerate(calls):
        kind = call.WhichOneof("call")
        match kind:
            case "function":
                name = call.function.name
                if not name:
                    findings.add(f"{place}[{index}].function.name", "is required")
                check_length(f"{place}[{index}].function.name", name, limits.name_characters_max, findings)
            case None:
                findings.add(f"{place}[{index}]", "must have function")
            case _:
                assert_never(kind)
        check_length(f"{place}[{index}].id", call.id, limits.id_characters_max, findings)
