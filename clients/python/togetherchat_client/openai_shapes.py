"""Builds the contract's messages from the dictionaries of OpenAI's chat API.

Owns the shapes: messages, content parts, tools, tool choices and response formats, as OpenAI's
documentation and Together's have them. A wrong shape raises ValueError with its place, such as
`messages[1].content[0].type`. Members that only OpenAI's responses have are skipped, so that a dumped
response can be sent again. The service validates the values.
"""

import base64
import binascii
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

from togetherchat.v1 import chat_pb2 as chat

ROLES: Final[Mapping[str, "chat.Role.ValueType"]] = {
    "system": chat.ROLE_SYSTEM,
    "developer": chat.ROLE_DEVELOPER,
    "user": chat.ROLE_USER,
    "assistant": chat.ROLE_ASSISTANT,
    "tool": chat.ROLE_TOOL,
}
TOOL_CHOICES: Final[Mapping[str, "chat.ToolChoiceMode.ValueType"]] = {
    "auto": chat.TOOL_CHOICE_MODE_AUTO,
    "none": chat.TOOL_CHOICE_MODE_NONE,
    "required": chat.TOOL_CHOICE_MODE_REQUIRED,
}
PARTS: Final = ("text", "image_url", "video_url", "audio_url", "input_audio")
FORMATS: Final = ("text", "json_object", "json_schema", "regex")
SCHEMA_NAME: Final = "answer"
"""For Together's format of 2024, whose schemas have no name."""

_SKIPPED: Final = frozenset({"annotations", "cache_control", "detail", "index"})
"""Members of OpenAI's objects that do not change a completion here."""

_Object = Mapping[str, object]
_Built = TypeVar("_Built")


def to_message(value: _Object, place: str) -> chat.Message:
    """Build a message.

    Raises:
        ValueError: the shape is wrong.
    """
    known = (
        "role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "reasoning_content", "refusal",
    )  # fmt: skip
    _reject_unknown(value, known, place)
    message = chat.Message(
        role=ROLES[_one_of(value, "role", ROLES, place)],
        content=_content(value.get("content"), f"{place}.content"),
        name=_text(value, "name", place),
        tool_calls=_list(value.get("tool_calls"), f"{place}.tool_calls", _tool_call),
        tool_call_id=_text(value, "tool_call_id", place),
        refusal=_text(value, "refusal", place),
    )
    if reasoning := _text(value, "reasoning", place):
        message.reasoning = reasoning
        message.reasoning_field = chat.REASONING_FIELD_REASONING
    elif reasoning := _text(value, "reasoning_content", place):
        message.reasoning = reasoning
        message.reasoning_field = chat.REASONING_FIELD_REASONING_CONTENT
    return message


def to_tool(value: object, place: str) -> chat.Tool:
    """Build a tool from its dictionary; a built tool is returned unchanged.

    Raises:
        ValueError: the shape is wrong.
    """
    if isinstance(value, chat.Tool):
        return value
    tool = _object(value, place)
    _reject_unknown(tool, ("type", "function"), place)
    _function_type(tool, place)
    function = _object(tool.get("function"), f"{place}.function")
    place = f"{place}.function"
    _reject_unknown(function, ("name", "description", "parameters", "strict"), place)
    return chat.Tool(
        function=chat.FunctionTool(
            name=_required_text(function, "name", place),
            description=_text(function, "description", place),
            parameters_json=_json(function.get("parameters"), f"{place}.parameters"),
            strict=_flag(function, "strict", place),
        )
    )


def to_tool_choice(value: object) -> chat.ToolChoice:
    """Build a tool choice: `auto`, `none`, `required`, or the dictionary of one function.

    Raises:
        ValueError: the shape is wrong.
    """
    place = "tool_choice"
    if isinstance(value, chat.ToolChoice):
        return value
    if isinstance(value, str):
        if value not in TOOL_CHOICES:
            raise ValueError(f"{place}: must be one of {_listed(TOOL_CHOICES)}, or a function")
        return chat.ToolChoice(mode=TOOL_CHOICES[value])
    choice = _object(value, place)
    _function_type(choice, place)
    function = _object(choice.get("function"), f"{place}.function")
    return chat.ToolChoice(function_name=_required_text(function, "name", f"{place}.function"))


def to_response_format(value: object) -> chat.ResponseFormat:
    """Build a response format.

    Raises:
        ValueError: the shape is wrong.
    """
    place = "response_format"
    if isinstance(value, chat.ResponseFormat):
        return value
    source = _object(value, place)
    kind = _one_of(source, "type", FORMATS, place)
    if source.get("schema") is not None and source.get("json_schema") is None and kind.startswith("json"):
        text = _json(source["schema"], f"{place}.schema")
        return chat.ResponseFormat(json_schema=chat.JsonSchemaFormat(name=SCHEMA_NAME, schema_json=text))
    if kind == "text":
        return chat.ResponseFormat(text=chat.TextFormat())
    if kind == "json_object":
        return chat.ResponseFormat(json_object=chat.JsonObjectFormat())
    if kind == "regex":
        return chat.ResponseFormat(regex=_required_text(source, "pattern", place))
    schema = _object(source.get("json_schema"), f"{place}.json_schema")
    place = f"{place}.json_schema"
    return chat.ResponseFormat(
        json_schema=chat.JsonSchemaFormat(
            name=_required_text(schema, "name", place),
            description=_text(schema, "description", place),
            schema_json=_json(schema.get("schema"), f"{place}.schema"),
            strict=_flag(schema, "strict", place),
        )
    )


def valid_text(text: str, place: str) -> str:
    """Return `text`. Raises ValueError if protobuf could not encode the text as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        rule = "is not valid Unicode: it has half of a surrogate pair"
        raise ValueError(f"{place}: {rule}; cut text between whole characters") from None
    return text


def _content(value: object, place: str) -> list[chat.ContentPart]:
    if isinstance(value, str):
        return [chat.ContentPart(text=valid_text(value, f"{place}[0].text"))]
    return _list(value, place, _part, wanted="must be text or a list of parts")


def _part(value: object, place: str) -> chat.ContentPart:
    if isinstance(value, chat.ContentPart):
        return value
    part = _object(value, place)
    kind = _one_of(part, "type", PARTS, place)
    _reject_unknown(part, ("type", kind), place)
    if kind == "text":
        return chat.ContentPart(text=_required_text(part, "text", place))
    place = f"{place}.{kind}"
    source = _object(part.get(kind), place)
    if kind == "input_audio":
        _reject_unknown(source, ("data", "format"), place)
        data = _base64(_required_text(source, "data", place), f"{place}.data")
        return chat.ContentPart(audio=chat.Audio(data=data, format=_required_text(source, "format", place)))
    _reject_unknown(source, ("url",), place)
    url = _required_text(source, "url", place)
    if kind == "image_url":
        return chat.ContentPart(image=chat.Image(url=url))
    return chat.ContentPart(video_url=url) if kind == "video_url" else chat.ContentPart(audio_url=url)


def _tool_call(value: object, place: str) -> chat.ToolCall:
    if isinstance(value, chat.ToolCall):
        return value
    call = _object(value, place)
    _reject_unknown(call, ("id", "type", "function"), place)
    _function_type(call, place)
    function = _object(call.get("function"), f"{place}.function")
    arguments = function.get("arguments")
    _reject_unknown(function, ("name", "arguments"), f"{place}.function")
    return chat.ToolCall(
        id=_text(call, "id", place),
        function=chat.FunctionCall(
            name=_required_text(function, "name", f"{place}.function"),
            arguments=_json(arguments, f"{place}.function.arguments"),
        ),
    )


def _function_type(value: _Object, place: str) -> None:
    if value.get("type", "function") not in ("function", None):
        raise ValueError(f'{place}.type: must be "function"')


def _object(value: object, place: str) -> _Object:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}: must be a dictionary, not {_named(value)}")  # noqa: TRY004  one class for all shapes
    return value  # pyright: ignore[reportUnknownVariableType]  the members are checked one by one


def _list(
    value: object,
    place: str,
    build: Callable[[object, str], _Built],
    *,
    wanted: str = "must be a list",
) -> list[_Built]:
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"{place}: {wanted}, not {_named(value)}")  # noqa: TRY004  one class for all shapes
    entries: Sequence[object] = value  # pyright: ignore[reportUnknownVariableType]  checked by `build`
    return [build(each, f"{place}[{index}]") for index, each in enumerate(entries)]


def _one_of(value: _Object, name: str, allowed: Collection[str], place: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or found not in allowed:
        raise ValueError(f"{place}.{name}: must be one of {_listed(allowed)}")
    return found


def _text(value: _Object, name: str, place: str) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ValueError(f"{place}.{name}: must be text, not {_named(found)}")  # noqa: TRY004  one class for all shapes
    return valid_text(found, f"{place}.{name}")


def _required_text(value: _Object, name: str, place: str) -> str:
    if value.get(name) is None:
        raise ValueError(f"{place}.{name}: is required")
    return _text(value, name, place)


def _flag(value: _Object, name: str, place: str) -> bool | None:
    found = value.get(name)
    if found is not None and not isinstance(found, bool):
        raise ValueError(f"{place}.{name}: must be True or False, not {_named(found)}")
    return found


def _json(value: object, place: str) -> str:
    """JSON text. Text is sent byte for byte."""
    if value is None:
        return ""
    if isinstance(value, str):
        return valid_text(value, place)
    members = _object(value, place)
    try:
        text = json.dumps(members, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{place}: cannot be written as JSON: {exc}") from exc
    return valid_text(text, place)


def _base64(text: str, place: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{place}: must be base64") from None


def _reject_unknown(value: _Object, known: Collection[str], place: str) -> None:
    for name, found in value.items():
        if name in known or name in _SKIPPED or found in (None, False, "", [], {}):
            continue
        raise ValueError(f"{place}.{name}: is not supported; supported are {_listed(known)}")


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)


def _named(value: object) -> str:
    return "None" if value is None else type(value).__name__
