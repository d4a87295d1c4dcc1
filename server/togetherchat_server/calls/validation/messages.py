"""The rules for messages: the fields that each role may have, and the shape of each part."""

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
REASONING_FIELDS: Final = frozenset(chat.ReasoningField.values())

_TEXT_ONLY: Final = "may only be text: other parts are allowed only on ROLE_USER"
_ASSISTANT_ONLY: Final = "is allowed only on ROLE_ASSISTANT"


def check_messages(messages: Sequence[chat.Message], limits: RequestLimits, violations: Violations) -> None:
    if not messages:
        violations.add("messages", "must have at least one entry")
    if not check_count("messages", messages, limits.messages_max, violations):
        return
    items = 0
    calls_without_id = False
    for index, message in enumerate(messages):
        if _is_plain(message):
            continue
        checked = _CheckedMessage(f"messages[{index}]", message, limits, violations)
        items += len(checked.content) + len(checked.tool_calls)
        if items > limits.parts_and_tool_calls_max:
            rule = f"may have at most {limits.parts_and_tool_calls_max} parts and tool calls together"
            violations.add("messages", rule)
            return
        _check_message(checked, id_required=not calls_without_id)
        calls_without_id = calls_without_id or any(not call.id for call in checked.tool_calls)


def _is_plain(message: chat.Message) -> bool:
    """Return whether a message is one text and nothing else. Most are, and this test takes 1 us.

    Checking all the rules takes 3 us. Protobuf spends most of that on creating an object for each
    field that is read; `_CheckedMessage` keeps the fields for the same reason.
    """
    content = message.content
    return (
        message.role in _PLAIN_ROLES
        and len(content) == 1
        and content[0].WhichOneof("part") == "text"
        and not (message.name or message.reasoning or message.reasoning_field)
        and not (message.tool_call_id or message.tool_calls)
    )


@final
class _CheckedMessage:
    """A message that is checked against all the rules, with its path for violations."""

    __slots__ = ("content", "limits", "message", "path", "role", "tool_calls", "violations")

    def __init__(
        self, path: str, message: chat.Message, limits: RequestLimits, violations: Violations
    ) -> None:
        self.path = path
        self.message = message
        self.role = message.role
        self.content = message.content
        self.tool_calls = message.tool_calls
        self.limits = limits
        self.violations = violations

    def add(self, field: str, description: str) -> None:
        self.violations.add(f"{self.path}.{field}", description)


def _check_message(checked: _CheckedMessage, *, id_required: bool) -> None:
    if checked.role == chat.ROLE_UNSPECIFIED:
        checked.add("role", "is required")
    elif checked.role not in ROLES:
        checked.add("role", f"{checked.role:d} is not a known value")
    else:
        _check_tool_call_id(checked, required=id_required)
        if checked.role != chat.ROLE_ASSISTANT:
            _check_not_assistant(checked)
    _check_content(checked)
    _check_texts(checked)
    if checked.tool_calls:
        _check_tool_calls(checked)


def _check_tool_call_id(checked: _CheckedMessage, *, required: bool) -> None:
    """Check that a result names its call, unless a call before it has no id: some providers send none."""
    tool_call_id = checked.message.tool_call_id
    if checked.role == chat.ROLE_TOOL and not tool_call_id and required:
        checked.add("tool_call_id", "is required on ROLE_TOOL")
    elif checked.role != chat.ROLE_TOOL and tool_call_id:
        checked.add("tool_call_id", "is allowed only on ROLE_TOOL")


def _check_not_assistant(checked: _CheckedMessage) -> None:
    """Reject what only the assistant may have."""
    if not checked.content:
        checked.add("content", "may be empty only on ROLE_ASSISTANT")
    if checked.tool_calls:
        checked.add("tool_calls", _ASSISTANT_ONLY)
    if checked.message.reasoning:
        checked.add("reasoning", _ASSISTANT_ONLY)
    if checked.message.reasoning_field:
        checked.add("reasoning_field", _ASSISTANT_ONLY)


def _check_texts(checked: _CheckedMessage) -> None:
    name, limits = checked.message.name, checked.limits
    if not name.isprintable():
        checked.add("name", "must be printable")
    if len(name) > limits.name_characters_max:
        checked.add("name", f"must have at most {limits.name_characters_max} characters")
    if len(checked.message.tool_call_id) > limits.tool_call_characters_max:
        checked.add("tool_call_id", f"must have at most {limits.tool_call_characters_max} characters")
    if checked.message.reasoning_field not in REASONING_FIELDS:
        checked.add("reasoning_field", f"{checked.message.reasoning_field:d} is not a known value")


def _check_content(checked: _CheckedMessage) -> None:
    parts_max = checked.limits.parts_per_message_max
    if len(checked.content) > parts_max:
        checked.add("content", f"must have at most {parts_max} entries")
        return
    text_only = checked.role != chat.ROLE_USER and checked.role in ROLES
    for index, part in enumerate(checked.content):
        kind = part.WhichOneof("part")
        if kind == "text":
            continue
        path = f"{checked.path}.content[{index}]"
        if text_only and kind is not None:
            checked.violations.add(path, _TEXT_ONLY)
        _check_part(path, part, checked.limits, checked.violations)


def _check_part(path: str, part: chat.ContentPart, limits: RequestLimits, violations: Violations) -> None:
    kind = part.WhichOneof("part")
    match kind:
        case "text":
            pass
        case "image":
            _check_image(f"{path}.image", part.image, limits, violations)
        case "video_url":
            check_url(f"{path}.video_url", part.video_url, limits, violations)
        case "audio_url":
            check_url(f"{path}.audio_url", part.audio_url, limits, violations)
        case "audio":
            _check_audio(f"{path}.audio", part.audio, violations)
        case None:
            violations.add(path, "must have one of text, image, video_url, audio_url, audio")
        case _:
            assert_never(kind)


def _check_image(path: str, image: chat.Image, limits: RequestLimits, violations: Violations) -> None:
    source = image.WhichOneof("source")
    match source:
        case "url":
            check_url(f"{path}.url", image.url, limits, violations)
        case "data":
            if not image.data:
                violations.add(f"{path}.data", "must not be empty")
            if not is_media_type(image.media_type):
                violations.add(f"{path}.media_type", "must be a media type such as image/png")
        case None:
            violations.add(path, "must have one of url, data")
        case _:
            assert_never(source)


def _check_audio(path: str, audio: chat.Audio, violations: Violations) -> None:
    if not audio.data:
        violations.add(f"{path}.data", "is required")
    if not is_audio_format(audio.format):
        violations.add(f"{path}.format", "must be a format such as wav: 1 to 32 of a-z 0-9")


def _check_tool_calls(checked: _CheckedMessage) -> None:
    """Check only sizes: a model wrote the names and arguments, and they are sent on unchanged."""
    tool_calls_max = checked.limits.tool_calls_per_message_max
    characters_max = checked.limits.tool_call_characters_max
    if len(checked.tool_calls) > tool_calls_max:
        checked.add("tool_calls", f"must have at most {tool_calls_max} entries")
        return
    for index, call in enumerate(checked.tool_calls):
        kind = call.WhichOneof("call")
        match kind:
            case "function":
                if len(call.function.name) > characters_max:
                    rule = f"must have at most {characters_max} characters"
                    checked.add(f"tool_calls[{index}].function.name", rule)
            case None:
                checked.add(f"tool_calls[{index}]", "must have function")
            case _:
                assert_never(kind)
        if len(call.id) > characters_max:
            rule = f"must have at most {characters_max} characters"
            checked.add(f"tool_calls[{index}].id", rule)
