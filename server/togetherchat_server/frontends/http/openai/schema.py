"""What clients of OpenAI's chat API send: its shapes and types, and nothing of what they mean.

Owns the reading of hostile bytes. Knows no message of ours. Types are strict, since "5" for a
number is a mistake that OpenAI's API refuses too; null stands for absent everywhere, since
many clients send it. Members that are not named here are kept in `extra`: what becomes of
them is decided in `inquiry`.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

import orjson
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from togetherchat_server.domain.reasons import Reason, ServiceError, Violation, sanitise

INT32_MIN: Final = -(2**31)
INT32_MAX: Final = 2**31 - 1
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
VIOLATIONS_MAX: Final = 16
PROBLEMS_MAX: Final = 64
# JSON has no such numbers; Python's parsers take them.
NO_NUMBERS: Final = (b"NaN", b"Infinity")

Int32 = Annotated[int, Field(ge=INT32_MIN, le=INT32_MAX)]
Int64 = Annotated[int, Field(ge=INT64_MIN, le=INT64_MAX)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Object = dict[str, object]


class RequestSchema(BaseModel):
    """Any of the shapes. `hide_input_in_errors`: an exception must not carry a prompt into a log."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", strict=True, hide_input_in_errors=True, cache_strings="keys"
    )

    def extra(self) -> Mapping[str, object]:
        """Members that are not named here, nulls left out."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}


class ImageUrl(RequestSchema):
    """A picture's address. `detail` is accepted and ignored, as Together does."""

    url: str
    detail: object = None


class Url(RequestSchema):
    """The address of a video or a recording."""

    url: str


class InputAudio(RequestSchema):
    """A recording, base64."""

    data: str
    format: str


class Part(RequestSchema):
    """One piece of a message's content: `type` names the member that carries it."""

    type: Literal["text", "image_url", "video_url", "audio_url", "input_audio"]
    text: str | None = None
    image_url: ImageUrl | None = None
    video_url: Url | None = None
    audio_url: Url | None = None
    input_audio: InputAudio | None = None


class CalledFunction(RequestSchema):
    """A call as the model wrote it; `arguments` is JSON as text."""

    name: str
    arguments: str = ""


class ToolCall(RequestSchema):
    """A call that the assistant asked for."""

    id: str = ""
    type: Literal["function"] = "function"
    index: object = None
    function: CalledFunction


class Message(RequestSchema):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class Function(RequestSchema):
    """What the model may ask for; `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class Tool(RequestSchema):
    """A tool. Together has functions alone."""

    type: Literal["function"] = "function"
    function: Function


class FunctionName(RequestSchema):
    """The one function that must be called."""

    name: str


class NamedToolChoice(RequestSchema):
    """A choice of one function."""

    type: Literal["function"] = "function"
    function: FunctionName


class JsonSchema(RequestSchema):
    """A schema and its name."""

    name: str
    description: str | None = None
    schema_: Annotated[Object | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(RequestSchema):
    """The form of the answer. `schema` beside `type` is Together's own form of 2024."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchema | None = None
    pattern: str | None = None
    schema_: Annotated[Object | None, Field(alias="schema")] = None


class StreamOptions(RequestSchema):
    """How a stream is made; members beside `include_usage` change nothing of an answer."""

    include_usage: bool | None = None


class Reasoning(RequestSchema):
    """The switch of hybrid models, and OpenRouter's spelling of the effort."""

    enabled: bool | None = None
    effort: str | None = None


class Request(RequestSchema):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: list[Message]
    max_tokens: Int32 | None = None
    max_completion_tokens: Int32 | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Int32 | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    stop: str | list[str] | None = None
    n: Int32 | None = None
    seed: Int64 | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | Int32 | None = None
    top_logprobs: Int32 | None = None
    echo: bool | None = None
    logit_bias: dict[str, Number] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedToolChoice | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    reasoning: Reasoning | None = None
    chat_template_kwargs: Object | None = None
    safety_model: str | None = None
    context_length_exceeded_behavior: str | None = None
    compliance: str | None = None
    prompt_cache_key: str | None = None
    fallback_models: list[str] | None = None


_REQUEST: Final = TypeAdapter(Request)
_MEMBERS: Final = frozenset(
    name
    for model in (Request, Message, Part, ToolCall, Tool, ResponseFormat, Reasoning, StreamOptions)
    for name in model.model_fields
) | {
    "url",
    "data",
    "format",
    "function",
    "name",
    "arguments",
    "description",
    "parameters",
    "strict",
    "schema",
}


def parse_request(body: bytes) -> Request:
    """A request. Raises `ServiceError` INVALID_REQUEST with what is wrong and where."""
    if any(word in body for word in NO_NUMBERS):
        _refuse_no_numbers(body)
    try:
        return _REQUEST.validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def to_json(value: Mapping[str, object]) -> str:
    """JSON text of what was read. Numbers that no double holds come out as no JSON, and are found
    by the check that every JSON text passes; integers of any size come out as they were.
    """
    return pydantic_core.to_json(value, inf_nan_mode="constants").decode()


def request_schema(references: str) -> dict[str, object]:
    """The JSON Schema of a request, its parts under `$defs`, referred to by this template."""
    return _REQUEST.json_schema(ref_template=references)


def _refuse_no_numbers(body: bytes) -> None:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        place = f"line {exc.lineno} column {exc.colno}"
        raise ServiceError(
            Reason.INVALID_REQUEST, f"the body is not JSON: reading ended at {place}"
        ) from None


def _refusal(error: ValidationError) -> ServiceError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        text = problems[0]["msg"].removeprefix("Invalid JSON: ")
        return ServiceError(Reason.INVALID_REQUEST, f"the body is not JSON: {sanitise(text)}")
    found = _deepest([(_path(problem["loc"]), _rule(problem["msg"])) for problem in problems])
    first = found[0]
    text = f"{first.field}: {first.description}" if first.field else f"the body: {first.description}"
    return ServiceError(Reason.INVALID_REQUEST, text, violations=tuple(found))


def _deepest(problems: list[tuple[str, str]]) -> list[Violation]:
    """Every arm of a union complains. Who has come furthest has understood what was meant; those that
    have come as far are told in one line.
    """
    rules: dict[str, str] = {}
    for path, rule in problems[:PROBLEMS_MAX]:
        rules[path] = f"{rules[path]}, or {rule}" if path in rules else rule
    deepest = [path for path in rules if not any(other != path and other.startswith(path) for other in rules)]
    return [Violation(field=path, description=rules[path]) for path in deepest[:VIOLATIONS_MAX]]


def _rule(message: str) -> str:
    return message[:1].lower() + message[1:]


def _path(location: tuple[int | str, ...]) -> str:
    """`messages[0].content[1].text`; pydantic's names for the arms of a union are left out."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step in _MEMBERS:
            path += f".{step}" if path else step
        elif path in {"logit_bias", "chat_template_kwargs"}:
            break  # the caller's own keys
    return path
