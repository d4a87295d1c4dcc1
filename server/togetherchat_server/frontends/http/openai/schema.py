"""The shapes and types of the requests that clients of OpenAI's chat API send.

Parses untrusted bytes. Does not use the contract's messages or interpret values. Types are strict,
since OpenAI's API rejects "5" for a number too; but 4096.0 is an integer, as in JSON Schema. Null means
absent, since many clients send it. Members that are not named here are kept in `extra`, for `request`.
The docstrings are in the OpenAPI document.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, ClassVar, Final, Literal

import orjson
import pydantic_core
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from togetherchat_server.calls.validation.bounds import LIMITS
from togetherchat_server.frontends.http.openai.problems import BYTE_ORDER_MARK, not_json, rejection

INT32_MIN: Final = -(2**31)
INT32_MAX: Final = 2**31 - 1
INT64_MIN: Final = -(2**63)
UINT64_MAX: Final = 2**64 - 1
# Not part of JSON, but accepted by Python's parsers.
NON_JSON_NUMBERS: Final = (b"NaN", b"Infinity")


def _integer(value: object) -> object:
    """Return a float without a fraction as an integer: JSON has one type of numbers.

    A float means its shortest decimal form: 1.592476422325145e19, as JavaScript prints a seed, is
    15924764223251450000.
    """
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))
    return value


Int32 = Annotated[int, Field(ge=INT32_MIN, le=INT32_MAX), BeforeValidator(_integer)]
Seed = Annotated[int, Field(ge=INT64_MIN, le=UINT64_MAX), BeforeValidator(_integer)]
"""From the least seed that clients send to the largest that the provider returns."""
Number = Annotated[float, Field(allow_inf_nan=False)]
Object = dict[str, object]


class RequestObject(BaseModel):
    """Any object of a request."""

    # `hide_input_in_errors`: an exception must not carry a prompt into a log.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", strict=True, hide_input_in_errors=True, cache_strings="keys"
    )

    def extra(self) -> Mapping[str, object]:
        """Return the members that are not named here, without nulls."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}


class RequestImageUrl(RequestObject):
    """The URL of an image. `detail` is accepted and ignored, as Together does."""

    url: str
    detail: object = None


class RequestMediaUrl(RequestObject):
    """The URL of a video or of audio."""

    url: str


class RequestInputAudio(RequestObject):
    """Audio data in base64."""

    data: str
    format: str


class RequestThinkingText(RequestObject):
    """A text of the model's reasoning, in Mistral's format."""

    text: str


class RequestContentPart(RequestObject):
    """One part of a message's content. `type` names the member that holds it.

    A `thinking` part is the reasoning of an earlier completion, a `refusal` part its refusal.
    """

    type: Literal["text", "image_url", "video_url", "audio_url", "input_audio", "thinking", "refusal"]
    text: str | None = None
    thinking: str | list[RequestThinkingText] | None = None
    refusal: str | None = None
    image_url: RequestImageUrl | None = None
    video_url: RequestMediaUrl | None = None
    audio_url: RequestMediaUrl | None = None
    input_audio: RequestInputAudio | None = None


class RequestFunctionCall(RequestObject):
    """A function call as the model wrote it. `arguments` is JSON as text, or an object."""

    name: str
    arguments: str | Object | None = None


class RequestToolCall(RequestObject):
    """A tool call that the assistant requested."""

    id: str | None = None
    type: Literal["function"] | None = None
    index: object = None
    function: RequestFunctionCall


# The first invalid entry ends the check of a message's list: with an error of each, the errors of a large
# request would take longer than the request.
Parts = Annotated[list[RequestContentPart], Field(max_length=LIMITS.parts_and_tool_calls_max, fail_fast=True)]
ToolCalls = Annotated[
    list[RequestToolCall], Field(max_length=LIMITS.parts_and_tool_calls_max, fail_fast=True)
]


class RequestMessage(RequestObject):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Parts | None = None
    name: str | None = None
    tool_calls: ToolCalls | None = None
    function_call: RequestFunctionCall | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class RequestFunction(RequestObject):
    """A function that the model may call. `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class RequestTool(RequestObject):
    """A tool. Together only supports functions."""

    type: Literal["function"] | None = None
    function: RequestFunction


class RequestFunctionName(RequestObject):
    """The name of the function that must be called."""

    name: str


class RequestNamedToolChoice(RequestObject):
    """The choice of one function."""

    type: Literal["function"] | None = None
    function: RequestFunctionName


class RequestJsonSchema(RequestObject):
    """A JSON Schema and its name."""

    name: str
    description: str | None = None
    schema_: Annotated[Object | None, Field(alias="schema")] = None
    strict: bool | None = None


class RequestResponseFormat(RequestObject):
    """The format of the completion. `schema` beside `type` is Together's own format of 2024."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: RequestJsonSchema | None = None
    pattern: str | None = None
    schema_: Annotated[Object | None, Field(alias="schema")] = None


class RequestStreamOptions(RequestObject):
    """Options of a stream. Members other than `include_usage` do not change a completion."""

    include_usage: bool | None = None


class RequestReasoning(RequestObject):
    """The switch of hybrid models, and the effort in OpenRouter's format."""

    enabled: bool | None = None
    effort: str | None = None


class RequestBody(RequestObject):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[RequestMessage], Field(max_length=LIMITS.messages_max)]
    max_tokens: Int32 | None = None
    max_completion_tokens: Int32 | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Int32 | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    stop: str | Annotated[list[str], Field(max_length=LIMITS.stop_max, fail_fast=True)] | None = None
    n: Int32 | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: RequestStreamOptions | None = None
    logprobs: bool | Int32 | None = None
    top_logprobs: Int32 | None = None
    echo: bool | None = None
    logit_bias: Annotated[dict[str, Number | None], Field(max_length=LIMITS.logit_bias_max)] | None = None
    tools: Annotated[list[RequestTool], Field(max_length=LIMITS.tools_max)] | None = None
    tool_choice: Literal["auto", "none", "required"] | RequestNamedToolChoice | None = None
    functions: Annotated[list[RequestFunction], Field(max_length=LIMITS.tools_max)] | None = None
    function_call: Literal["auto", "none"] | RequestFunctionName | None = None
    response_format: RequestResponseFormat | None = None
    reasoning_effort: str | None = None
    reasoning: RequestReasoning | None = None
    chat_template_kwargs: Object | None = None
    safety_model: str | None = None
    context_length_exceeded_behavior: Literal["error", "truncate"] | None = None
    compliance: str | None = None
    prompt_cache_key: str | None = None
    fallback_models: Annotated[list[str], Field(max_length=LIMITS.fallback_models_max)] | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None


_REQUEST: Final = TypeAdapter(RequestBody)
_MEMBERS: Final = frozenset(
    name
    for model in (
        RequestBody,
        RequestMessage,
        RequestContentPart,
        RequestToolCall,
        RequestTool,
        RequestResponseFormat,
        RequestReasoning,
        RequestStreamOptions,
    )
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


def parse_request(body: bytes) -> RequestBody:
    """Parse a request; a byte order mark is skipped. Raises `ServiceError` INVALID_REQUEST."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    if any(word in body for word in NON_JSON_NUMBERS):
        _reject_non_json_numbers(body)
    try:
        return _REQUEST.validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            raise not_json(problems[0]["msg"], body) from None
        raise rejection([(each["loc"], each["msg"]) for each in problems], members=_MEMBERS) from None


def to_json(value: Mapping[str, object]) -> str:
    """Return parsed JSON as text again. Integers of any size are kept.

    A number that does not fit in a double becomes invalid JSON, which validation then rejects.
    """
    return pydantic_core.to_json(value, inf_nan_mode="constants").decode()


def request_schema(references: str) -> dict[str, object]:
    """Return the JSON Schema of a request, with its parts under `$defs`, referenced by this template."""
    return _REQUEST.json_schema(ref_template=references)


def _reject_non_json_numbers(body: bytes) -> None:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise not_json(f"{exc.msg} at line {exc.lineno} column {exc.colno}", body) from None
