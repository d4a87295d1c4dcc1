"""The rules for messages: known roles, the shape of each part, and sizes.

Which fields and parts a role may have differs from model to model, and the provider judges it: some
models read pictures in tool messages, or results of tools without an id.
"""

from collections.abc import Sequence
from typing import Final, assert_never, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.texts import check_count, check_url, is_media_type
from togetherchat_server.calls.validation.violations import Violations

ROLES: Final = frozenset(chat.Role.values()) - {chat.ROLE_UNSPECIFIED}
REASONING_FIELDS: Final = frozenset(chat.ReasoningField.values())


def check_messages(messages: Sequence[chat.Message], limits: RequestLimits, violations: Violations) -> None:
    if not messages:
        violations.add("messages", "must have at least one entry")
    if not check_count("messages", messages, limits.messages_max, violations):
        return
    items = 0
    for index, message in enumerate(messages):
        if _is_plain(message):
            continue
        checked = _CheckedMessage(f"messages[{index}]", message, limits, violations)
        items += len(checked.content) + len(checked.tool_calls)
        if items > limits.parts_and_tool_calls_max:
            rule = f"may have at most {limits.parts_and_tool_calls_max} parts and tool calls together"
            violations.add("messages", rule)
            return
        _check_message(checked)


def _is_plain(message: chat.Message) -> bool:
    """Return whether a message is one text and nothing else. Most are, and this test takes 1 us.

    Checking all the rules takes 3 us. Protobuf spends most of that on creating an object for each
    field that is read; `_CheckedMessage` keeps the fields for the same reason.
    """
    content = message.content
    return (
        message.role in ROLES
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


def _check_message(checked: _CheckedMessage) -> None:
    if checked.role == chat.ROLE_UNSPECIFIED:
        checked.add("role", "is required")
    elif checked.role not in ROLES:
        checked.add("role", f"{checked.role:d} is not a known value")
    _check_content(checked)
    _check_texts(checked)
    if checked.tool_calls:
        _check_tool_calls(checked)


def _check_texts(checked: _CheckedMessage) -> None:
    name, limits = checked.message.name, checked.limits
    if len(name) > limits.name_characters_max:
        checked.add("name", f"must have at most {limits.name_characters_max} characters")
    if len(checked.message.tool_call_id) > limits.tool_call_characters_max:
        checked.add("tool_call_id", f"must have at most {limits.tool_call_characters_max} characters")
    if checked.message.reasoning_field not in REASONING_FIELDS:
        checked.add("reasoning_field", f"{checked.message.reasoning_field:d} is not a known value")


def _check_content(checked: _CheckedMessage) -> None:
    for index, part in enumerate(checked.content):
        if part.WhichOneof("part") != "text":
            _check_part(f"{checked.path}.content[{index}]", part, checked.limits, checked.violations)


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
            _check_audio(f"{path}.audio", part.audio, limits, violations)
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


def _check_audio(path: str, audio: chat.Audio, limits: RequestLimits, violations: Violations) -> None:
    if not audio.data:
        violations.add(f"{path}.data", "is required")
    if not 0 < len(audio.format) <= limits.word_characters_max:
        violations.add(f"{path}.format", f"must have 1 to {limits.word_characters_max} characters")


def _check_tool_calls(checked: _CheckedMessage) -> None:
    """Check only sizes: a model wrote the names and arguments, and they are sent on unchanged."""
    characters_max = checked.limits.tool_call_characters_max
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
