"""The rules of a conversation: what each role may say, and the shape of each part."""

from collections.abc import Sequence
from typing import Final, assert_never, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.texts import (
    check_count,
    check_url,
    is_audio_format,
    is_media_type,
)
from togetherchat_server.calls.validation.violations import Violations

ROLES: Final = frozenset(chat.Role.values()) - {chat.ROLE_UNSPECIFIED}
_PLAIN_ROLES: Final = ROLES - {chat.ROLE_TOOL}
REASONING_KEYS: Final = frozenset({"", "reasoning", "reasoning_content"})

_TEXT_ONLY: Final = "may be text alone: other parts are for ROLE_USER"
_ASSISTANT_ONLY: Final = "is for ROLE_ASSISTANT alone"


def check_messages(messages: Sequence[chat.Message], limits: RequestLimits, findings: Violations) -> None:
    if not messages:
        findings.add("messages", "must have at least one entry")
    if not check_count("messages", messages, limits.messages_max, findings):
        return
    pieces = 0
    for index, message in enumerate(messages):
        if _is_plain(message):
            continue
        turn = _Turn(f"messages[{index}]", message, limits, findings)
        pieces += len(turn.content) + len(turn.tool_calls)
        if pieces > limits.pieces_max:
            findings.add("messages", f"may have {limits.pieces_max} parts and tool calls together")
            return
        _check_turn(turn)


def _is_plain(message: chat.Message) -> bool:
    """One text and nothing else: true of most messages, and told in 1 us.

    Going through all the rules takes 3 us, most of it spent by protobuf on making an object
    for each field of a message that is read; hence also the fields kept in `_Turn`.
    """
    content = message.content
    return (
        message.role in _PLAIN_ROLES
        and len(content) == 1
        and content[0].WhichOneof("part") == "text"
        and not (message.name or message.reasoning or message.reasoning_key)
        and not (message.tool_call_id or message.tool_calls)
    )


@final
class _Turn:
    """A message that is looked at closely, and where to say what is wrong with it."""

    __slots__ = ("content", "findings", "limits", "message", "place", "role", "tool_calls")

    def __init__(
        self, place: str, message: chat.Message, limits: RequestLimits, findings: Violations
    ) -> None:
        self.place = place
        self.message = message
        self.role = message.role
        self.content = message.content
        self.tool_calls = message.tool_calls
        self.limits = limits
        self.findings = findings

    def wrong(self, field: str, description: str) -> None:
        self.findings.add(f"{self.place}.{field}", description)


def _check_turn(turn: _Turn) -> None:
    if turn.role == chat.ROLE_UNSPECIFIED:
        turn.wrong("role", "is required")
    elif turn.role not in ROLES:
        turn.wrong("role", f"{turn.role:d} is no known value")
    else:
        _check_tool_call_id(turn)
        if turn.role != chat.ROLE_ASSISTANT:
            _check_not_assistants(turn)
    _check_content(turn)
    _check_texts(turn)
    if turn.tool_calls:
        _check_tool_calls(turn)


def _check_tool_call_id(turn: _Turn) -> None:
    tool_call_id = turn.message.tool_call_id
    if turn.role == chat.ROLE_TOOL and not tool_call_id:
        turn.wrong("tool_call_id", "is required on ROLE_TOOL")
    elif turn.role != chat.ROLE_TOOL and tool_call_id:
        turn.wrong("tool_call_id", "is for ROLE_TOOL alone")


def _check_not_assistants(turn: _Turn) -> None:
    """What nobody but the model may do."""
    if not turn.content:
        turn.wrong("content", "may be empty on ROLE_ASSISTANT alone")
    if turn.tool_calls:
        turn.wrong("tool_calls", _ASSISTANT_ONLY)
    if turn.message.reasoning:
        turn.wrong("reasoning", _ASSISTANT_ONLY)
    if turn.message.reasoning_key:
        turn.wrong("reasoning_key", _ASSISTANT_ONLY)


def _check_texts(turn: _Turn) -> None:
    name, limits = turn.message.name, turn.limits
    if not name.isprintable():
        turn.wrong("name", "must be printable")
    if len(name) > limits.name_characters_max:
        turn.wrong("name", f"must have at most {limits.name_characters_max} characters")
    if len(turn.message.tool_call_id) > limits.id_characters_max:
        turn.wrong("tool_call_id", f"must have at most {limits.id_characters_max} characters")
    if turn.message.reasoning_key not in REASONING_KEYS:
        turn.wrong("reasoning_key", "must be empty, reasoning or reasoning_content")


def _check_content(turn: _Turn) -> None:
    parts_max = turn.limits.parts_per_message_max
    if len(turn.content) > parts_max:
        turn.wrong("content", f"must have at most {parts_max} entries")
        return
    text_only = turn.role != chat.ROLE_USER and turn.role in ROLES
    for index, part in enumerate(turn.content):
        kind = part.WhichOneof("part")
        if kind == "text":
            continue
        place = f"{turn.place}.content[{index}]"
        if text_only and kind is not None:
            turn.findings.add(place, _TEXT_ONLY)
        _check_part(place, part, turn.limits, turn.findings)


def _check_part(place: str, part: chat.ContentPart, limits: RequestLimits, findings: Violations) -> None:
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


def _check_image(place: str, image: chat.Image, limits: RequestLimits, findings: Violations) -> None:
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


def _check_audio(place: str, audio: chat.Audio, findings: Violations) -> None:
    if not audio.data:
        findings.add(f"{place}.data", "is required")
    if not is_audio_format(audio.format):
        findings.add(f"{place}.format", "must be a format such as wav: 1 to 32 of a-z 0-9")


def _check_tool_calls(turn: _Turn) -> None:
    """Calls as a model wrote them: neither their names nor their arguments are ours to correct."""
    max_concurrent_calls = turn.limits.tool_calls_per_message_max
    if len(turn.tool_calls) > max_concurrent_calls:
        turn.wrong("tool_calls", f"must have at most {max_concurrent_calls} entries")
        return
    for index, call in enumerate(turn.tool_calls):
        kind = call.WhichOneof("call")
        match kind:
            case "function":
                if not 0 < len(call.function.name) <= turn.limits.name_characters_max:
                    rule = f"must have 1 to {turn.limits.name_characters_max} characters"
                    turn.wrong(f"tool_calls[{index}].function.name", rule)
            case None:
                turn.wrong(f"tool_calls[{index}]", "must have function")
            case _:
                assert_never(kind)
        if len(call.id) > turn.limits.id_characters_max:
            rule = f"must have at most {turn.limits.id_characters_max} characters"
            turn.wrong(f"tool_calls[{index}].id", rule)
