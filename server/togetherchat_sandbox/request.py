"""Parses and checks a chat request. Owns the supported fields and the errors about invalid ones.

The checks are stricter than the real API, which accepted at least one `max_tokens` of a wrong
type: a mistake in a client should show here first. Undocumented fields are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeGuard

from togetherchat_sandbox.api_errors import ApiError, RequestRejectedError
from togetherchat_sandbox.encoding import Json, JsonObject, as_list, as_object, decode

ROLES = frozenset({"system", "user", "assistant", "tool", "function", "developer"})

# Ranges of the published request schema; both ends belong to it.
NUMBER_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0, 100),
}
INTEGER_RANGES: Mapping[str, tuple[int, int]] = {
    "max_tokens": (1, 2**31 - 1),
    "n": (1, 128),
    "logprobs": (0, 20),
    "top_k": (-1, 2**31 - 1),
    "seed": (-(2**63), 2**64 - 1),
}
BOOLEANS = ("stream", "echo")


class OutputFormat(Enum):
    """The required format of the completion: the values of `response_format.type`."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message: its text, and the number of images, videos and sounds."""

    role: str
    text: str
    attachments: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTool:
    """A function that may be called, with the JSON schema of its arguments."""

    name: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """The parts of a request that the sandbox uses.

    `tool_choice` is auto, none, required or the name of a function.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    truncate: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: int = 1
    logprobs: int | None = None
    echo: bool = False
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: str = "auto"
    format: OutputFormat = OutputFormat.TEXT
    schema: JsonObject = field(default_factory=dict[str, Json])
    pattern: str = ""
    reasoning_enabled: bool = True

    @property
    def last_user_text(self) -> str:
        """The text of the last user message, or of the last message where no user message exists."""
        texts = [message.text for message in self.messages if message.role == "user"]
        return texts[-1] if texts else self.messages[-1].text


def parse_request(data: bytes) -> ChatRequest:
    """Parse the body of `POST /v1/chat/completions`.

    Raises:
        RequestRejectedError: a field is missing (400) or invalid (422).
    """
    fields = _object(data)
    model = _model(fields)
    messages = _messages(fields)
    _check(fields)
    tools = tuple(_tool(tool) for tool in as_list(fields.get("tools")))
    response_format = as_object(fields.get("response_format"))
    return ChatRequest(
        model=model,
        messages=messages,
        stream=fields.get("stream") is True,
        include_usage=as_object(fields.get("stream_options")).get("include_usage") is True,
        max_tokens=_integer(fields, "max_tokens"),
        truncate=fields.get("context_length_exceeded_behavior") == "truncate",
        stop=_stop(fields.get("stop")),
        seed=_integer(fields, "seed"),
        choices=_integer(fields, "n") or 1,
        logprobs=_integer(fields, "logprobs"),
        echo=fields.get("echo") is True,
        tools=tools,
        tool_choice=_tool_choice(fields.get("tool_choice"), tools),
        format=_format(response_format),
        schema=_schema(response_format),
        pattern=_text(response_format, "pattern"),
        reasoning_enabled=_reasoning_enabled(fields),
    )


def _missing(what: str) -> RequestRejectedError:
    return RequestRejectedError(ApiError(status=400, message=f"Input required: {what}"))


def _wrong(what: str) -> RequestRejectedError:
    return RequestRejectedError(ApiError(status=422, message=f"Input validation error: {what}"))


def _object(data: bytes) -> JsonObject:
    try:
        value = decode(data)
    except ValueError as exc:
        raise RequestRejectedError(ApiError(status=400, message="The body is not JSON.")) from exc
    if not isinstance(value, dict):
        raise RequestRejectedError(ApiError(status=400, message="The body is not a JSON object."))
    return value


def _model(fields: JsonObject) -> str:
    model = fields.get("model")
    if not model:
        raise _missing("model")
    if not isinstance(model, str):
        raise _wrong("`model` must be a string")
    return model


def _messages(fields: JsonObject) -> tuple[ChatMessage, ...]:
    messages = fields.get("messages")
    if not messages:
        raise _missing("messages")
    if not isinstance(messages, list):
        raise _wrong("`messages` must be an array")
    return tuple(_message(message, place) for place, message in enumerate(messages))


def _message(value: Json, place: int) -> ChatMessage:
    message = as_object(value)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise _wrong(f"`messages[{place}].role` must be one of {', '.join(sorted(ROLES))}")
    if isinstance(content, str):
        return ChatMessage(role=role, text=content)
    if content is None and role == "assistant":
        return ChatMessage(role=role, text="")
    if not isinstance(content, list):
        raise _wrong(f"`messages[{place}].content` must be a string or an array of parts")
    parts = [as_object(part) for part in content]
    texts = [text for part in parts if isinstance(text := part.get("text"), str)]
    return ChatMessage(role=role, text="\n".join(texts), attachments=len(parts) - len(texts))


def _check(fields: JsonObject) -> None:
    for name, (low, high) in NUMBER_RANGES.items():
        value = fields.get(name)
        if value is not None and not (_is_number(value) and low <= value <= high):
            raise _wrong(f"`{name}` must be a number from {low} to {high}")
    for name in INTEGER_RANGES:
        _integer(fields, name)
    for name in BOOLEANS:
        if not isinstance(fields.get(name), bool | None):
            raise _wrong(f"`{name}` must be a boolean")
    for name in ("tools", "logit_bias", "response_format", "stream_options"):
        if (
            not isinstance(fields.get(name), list if name == "tools" else dict)
            and fields.get(name) is not None
        ):
            raise _wrong(f"`{name}` has the wrong type")


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _integer(fields: JsonObject, name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    low, high = INTEGER_RANGES[name]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(f"`{name}` must be an integer from {low} to {high}")
    return value


def _text(fields: JsonObject, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _stop(value: Json) -> tuple[str, ...]:
    candidates = [value] if isinstance(value, str) else as_list(value)
    return tuple(stop for stop in candidates if isinstance(stop, str) and stop)


def _tool(value: Json) -> FunctionTool:
    function = as_object(as_object(value).get("function"))
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise _wrong("`tools[].function.name` must be a string")
    return FunctionTool(name=name, parameters=as_object(function.get("parameters")))


def _tool_choice(value: Json, tools: tuple[FunctionTool, ...]) -> str:
    if isinstance(value, dict):
        value = as_object(value.get("function")).get("name")
    if value is None or value in {"auto", "none"}:
        return value or "auto"
    names = {tool.name for tool in tools}
    if not isinstance(value, str) or not (value in names or (value == "required" and names)):
        raise _wrong("`tool_choice` names no function of `tools`")
    return value


def _format(response_format: JsonObject) -> OutputFormat:
    kind = response_format.get("type", "text")
    try:
        return OutputFormat(kind)
    except ValueError as exc:
        raise _wrong("`response_format.type` is unknown") from exc


def _schema(response_format: JsonObject) -> JsonObject:
    named = as_object(response_format.get("json_schema"))
    if response_format.get("json_schema") is not None and not _text(named, "name"):
        raise _wrong("`response_format.json_schema.name` is required")
    # The form of 2024 had the schema one level up.
    return as_object(named.get("schema") or response_format.get("schema"))


def _reasoning_enabled(fields: JsonObject) -> bool:
    template = as_object(fields.get("chat_template_kwargs"))
    switches = (
        as_object(fields.get("reasoning")).get("enabled"),
        template.get("thinking"),
        template.get("enable_thinking"),
    )
    return not any(switch is False for switch in switches)
