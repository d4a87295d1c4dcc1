"""Parses a chat request into the values that the sandbox uses, or rejects it with Together's error.

Knows nothing of completions; `schema.py` has the rules for the fields.
"""

from dataclasses import dataclass, field
from typing import cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from togetherchat_sandbox.api_errors import ApiError, RequestRejectedError
from togetherchat_sandbox.encoding import Json, JsonObject, decode
from togetherchat_sandbox.reasoning_switch import can_switch_reasoning_off
from togetherchat_sandbox.schema import AnyObject, ChatRequestFields, MessageFields, OutputFormat

# A required field that is missing, null or empty gets 400, every other invalid field 422.
_ABSENT = frozenset({"missing", "string_too_short", "too_short"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message: its text, the number of images, videos and sounds, and the functions that it calls."""

    role: str
    text: str
    attachments: int = 0
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTool:
    """A function that may be called, with the JSON schema of its arguments."""

    name: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """The parts of a request that the sandbox uses.

    `tool_choice` is auto, none, required or the name of a function. `cache_key` routes the request to a
    prompt cache: `prompt_cache_key`, or without one `user`.
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
    parallel_tool_calls: bool = True
    format: OutputFormat = OutputFormat.TEXT
    schema: JsonObject = field(default_factory=dict[str, Json])
    pattern: str = ""
    reasoning_enabled: bool = True
    cache_key: str = ""

    @property
    def last_user_text(self) -> str:
        """The text of the last user message, or of the last message where no user message exists."""
        texts = [message.text for message in self.messages if message.role == "user"]
        return texts[-1] if texts else self.messages[-1].text

    @property
    def turn(self) -> tuple[ChatMessage, ...]:
        """The messages of the current turn: the last user messages in a row, and what follows them."""
        roles = [message.role for message in self.messages]
        start = len(roles) - roles[::-1].index("user") - 1 if "user" in roles else 0
        while start and roles[start - 1] == "user":
            start -= 1
        return self.messages[start:]

    @property
    def user_words(self) -> str:
        """The text of all user messages of the current turn."""
        return "\n".join(message.text for message in self.turn if message.role == "user")


def parse_request(data: bytes) -> ChatRequest:
    """Parse the body of `POST /v1/chat/completions`.

    Raises:
        RequestRejectedError: a field is missing (400) or invalid (422).
    """
    try:
        body = decode(data)
    except ValueError as exc:
        raise _rejected(400, "The body is not JSON.") from exc
    if not isinstance(body, dict):
        raise _rejected(400, "The body is not a JSON object.")
    # A null equals a missing field.
    present = {name: value for name, value in body.items() if value is not None}
    try:
        return _from_schema(ChatRequestFields.model_validate(present))
    except ValidationError as exc:
        raise _invalid(exc.errors(include_url=False)[0]) from exc


def _rejected(status: int, message: str) -> RequestRejectedError:
    return RequestRejectedError(ApiError(status=status, message=message))


def _invalid(error: ErrorDetails) -> RequestRejectedError:
    first, *rest = error["loc"]
    if not rest and error["type"] in _ABSENT:
        return _rejected(400, f"Input required: {first}")
    path = f"{first}" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in rest)
    return _rejected(422, f"Input validation error: `{path}`: {error['msg']}")


def _from_schema(fields: ChatRequestFields) -> ChatRequest:
    response_format = fields.response_format
    named = response_format.json_schema
    switches = (
        fields.reasoning.enabled,
        fields.chat_template_kwargs.thinking,
        fields.chat_template_kwargs.enable_thinking,
    )
    return ChatRequest(
        model=fields.model,
        messages=tuple(_message(message) for message in fields.messages),
        stream=fields.stream,
        include_usage=fields.stream_options.include_usage is True,
        max_tokens=fields.max_tokens,
        truncate=fields.context_length_exceeded_behavior == "truncate",
        stop=tuple(stop for stop in fields.stop if stop),
        seed=fields.seed,
        choices=fields.n,
        logprobs=fields.logprobs,
        echo=fields.echo,
        tools=tuple(
            FunctionTool(name=tool.function.name, parameters=_json(tool.function.parameters))
            for tool in fields.tools
        ),
        tool_choice=fields.tool_choice,
        parallel_tool_calls=fields.parallel_tool_calls,
        format=response_format.type,
        schema=_json((named and named.body) or response_format.body),
        pattern=response_format.pattern or "",
        reasoning_enabled=False not in switches or not can_switch_reasoning_off(fields.model),
        cache_key=fields.prompt_cache_key or fields.user or "",
    )


def _message(message: MessageFields) -> ChatMessage:
    texts = [part.text for part in message.content if isinstance(part.text, str)]
    return ChatMessage(
        role=message.role,
        text="\n".join(texts),
        attachments=len(message.content) - len(texts),
        calls=tuple(call.function.name for call in message.tool_calls or ()),
    )


def _json(value: AnyObject | None) -> JsonObject:
    """Return an object that was decoded from JSON as such; pydantic does not look into it."""
    return cast("JsonObject", value or {})
