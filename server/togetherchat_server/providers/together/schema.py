"""The JSON of Together's API as it is observed: the fields that are used, without their meaning.

Owns the shapes of responses and the parsing of hostile bytes. Knows none of our messages.

There are two kinds of field. Fields that carry the completion (choices, content, tool calls) are
strict: a wrong shape makes the response malformed, because leaving the field out would change the
completion. Fields that inform (ids, times, seeds, counts, log probabilities) are lenient: null, a wrong
type or a number out of range reads as absent, because no caller should lose a completion over them.
So no number outside its protobuf field's range leaves this module.

pydantic's own parser reads the JSON in one pass. It rejects what protobuf could not carry or the
interpreter could not survive: invalid UTF-8, lone surrogates, nesting beyond 200, integers of more
than 4,300 digits. Honest models cause the first two when they cut a character in half, so a text that
was rejected is repaired and parsed once more.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeVar

import pydantic_core
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from togetherchat_server.domain.reasons import Reason, ServiceError

INT32_MAX: Final = 2**31 - 1
INDEX_MAX: Final = 2**16 - 1
"""More choices or tool calls than any response has: a larger index is noise."""
UINT64_MAX: Final = 2**64 - 1
SECONDS_MAX: Final = 253_402_300_799
"""The last second that a protobuf Timestamp holds: the end of the year 9999."""


class _OrDefault:
    """Reads an invalid value as `default`. Runs inside pydantic's compiled validator."""

    def __init__(self, default: object) -> None:
        self._default = default

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=self._default, on_error="default")


class _OrOther:
    """Reads a text, or a value of another shape that `to_text` turns into one.

    The other shape is tried when the value is not a text, so a text costs nothing more.
    """

    def __init__(self, other: object, to_text: Callable[[Any], str]) -> None:
        self._other = other
        self._to_text = to_text

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        other = handler.generate_schema(self._other)
        text = core_schema.no_info_after_validator_function(self._to_text, other)
        return core_schema.union_schema([handler(source), text], mode="left_to_right")


def _to_json(value: dict[str, object]) -> str:
    """Return the text of a parsed object. Integers of any size are kept."""
    return pydantic_core.to_json(value).decode()


def _joined(parts: list["TextPart"]) -> str:
    return "".join(part.text for part in parts)


def _uint64(value: object) -> int | None:
    """Read a seed: an integer, possibly beyond int64, or a float if JavaScript printed it.

    Such a float means its shortest decimal form: 1.592476422325145e19 is 15924764223251450000,
    not the 15924764223251449856 that the double holds.
    """
    if isinstance(value, float) and math.isfinite(value) and abs(value) <= UINT64_MAX:
        value = int(Decimal(repr(value))) if value.is_integer() else None
    return value if isinstance(value, int) and 0 <= value <= UINT64_MAX else None


def _code(value: object) -> str:
    """Read a code: a string or a number."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= UINT64_MAX:
        return str(value)
    return value if isinstance(value, str) else ""


def _error(value: object) -> object:
    """Read `error`: an object, a text, or any other truthy value."""
    match value:
        case str() if value:
            return {"message": value}
        case dict():
            return value or None  # pyright: ignore[reportUnknownVariableType]  it is validated next
        case _:
            return {} if value else None


Text = Annotated[str, _OrDefault("")]
Code = Annotated[str, BeforeValidator(_code)]
Count = Annotated[Annotated[int, Field(ge=0, le=INT32_MAX)] | None, _OrDefault(None)]
Tokens = Annotated[Annotated[int, Field(gt=0, le=INT32_MAX)] | None, _OrDefault(None)]
Index = Annotated[Annotated[int, Field(ge=0, le=INDEX_MAX)] | None, _OrDefault(None)]
Seconds = Annotated[Annotated[int, Field(gt=0, le=SECONDS_MAX)] | None, _OrDefault(None)]
Number = Annotated[Annotated[float, Field(allow_inf_nan=False)] | None, _OrDefault(None)]
Price = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, _OrDefault(None)]
Seed = Annotated[int | None, BeforeValidator(_uint64)]
TokenBytes = Annotated[list[Annotated[int, Field(ge=0, le=255)]] | None, _OrDefault(None)]
Alternatives = Annotated[dict[str, Number] | None, _OrDefault(None)]
"""The most likely tokens at one position, with their log probabilities."""


class _SchemaModel(BaseModel):
    """Base of every model here.

    `hide_input_in_errors`: an exception must not carry a prompt or a completion into a log.
    `cache_strings`: by default the parser keeps the last 16,384 short texts of responses for later.
    """

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, cache_strings="keys")


class ErrorBody(_SchemaModel):
    """The provider's description of a failure, from any of its shapes."""

    message: Annotated[Text, Field(validation_alias=AliasChoices("message", "detail"))] = ""
    type: Code = ""
    code: Code = ""
    error_type: Code = ""
    status: Annotated[Count, Field(validation_alias=AliasChoices("status", "status_code"))] = None


Error = Annotated[ErrorBody | None, BeforeValidator(_error)]


class _ErrorResponse(ErrorBody):
    """A body with an `error` member, or one that is the error itself."""

    error: Error = None


class PromptTokensDetails(_SchemaModel):
    """Some models count cached tokens here."""

    cached_tokens: Count = None


class CompletionTokensDetails(_SchemaModel):
    """Some models count reasoning tokens here."""

    reasoning_tokens: Count = None


class ResponseUsage(_SchemaModel):
    """Token counts; cached and reasoning tokens and the details differ from model to model."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    cached_tokens: Count = None
    reasoning_tokens: Count = None
    prompt_tokens_details: Annotated[PromptTokensDetails | None, _OrDefault(None)] = None
    completion_tokens_details: Annotated[CompletionTokensDetails | None, _OrDefault(None)] = None


class ResponseWarning(_SchemaModel):
    """A warning about the request or the completion."""

    message: Text = ""


class TopLogprobEntry(_SchemaModel):
    """An alternative token, in OpenAI's shape."""

    token: str
    logprob: Number = None
    bytes: TokenBytes = None


class TokenLogprobEntry(TopLogprobEntry):
    """OpenAI's shape: one object per token."""

    top_logprobs: Annotated[list[TopLogprobEntry] | None, _OrDefault(None)] = None


class ResponseLogprobs(_SchemaModel):
    """Together's shape (parallel arrays) and OpenAI's (`content`)."""

    tokens: Annotated[list[str] | None, _OrDefault(None)] = None
    token_logprobs: Annotated[list[Number] | None, _OrDefault(None)] = None
    token_ids: Annotated[list[Count] | None, _OrDefault(None)] = None
    top_logprobs: Annotated[list[Alternatives] | dict[str, Number] | None, _OrDefault(None)] = None
    content: Annotated[list[TokenLogprobEntry] | None, _OrDefault(None)] = None


LogprobsOrNumber = Annotated[
    ResponseLogprobs | Annotated[float, Field(allow_inf_nan=False)] | None, _OrDefault(None)
]
"""In a stream a bare number: the log probability of the chunk's only token."""

OptionalUsage = Annotated[ResponseUsage | None, _OrDefault(None)]
OptionalWarnings = Annotated[list[ResponseWarning | str] | None, _OrDefault(None)]


class TextPart(_SchemaModel):
    """One part of a content that is a list. A part that is not text cannot be returned."""

    type: Literal["text"] = "text"
    text: str


class ResponseFunction(_SchemaModel):
    """The function of a tool call. `arguments` is JSON as text, or in a stream a fragment of it.

    llama.cpp has sent an object in place of its text.
    """

    name: Text = ""
    arguments: Annotated[str, _OrOther(dict[str, object], _to_json)] | None = None


class ResponseToolCall(_SchemaModel):
    """A tool call, or in a stream a fragment of one."""

    index: Index = None
    id: Text = ""
    function: ResponseFunction | None = None


class ResponseMessage(_SchemaModel):
    """A message of the model, or in a stream a fragment of one. Some engines send content as a list."""

    role: Text = ""
    content: Annotated[str, _OrOther(list[TextPart], _joined)] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ResponseToolCall] | None = None
    token_id: Count = None


class _ChoiceBase(_SchemaModel):
    index: Index = None
    finish_reason: Text = ""
    seed: Seed = None
    logprobs: LogprobsOrNumber = None
    top_logprobs: Alternatives = None
    usage: OptionalUsage = None


class ResponseChoice(_ChoiceBase):
    """One choice of a unary response."""

    message: ResponseMessage


class ChunkChoice(_ChoiceBase):
    """A fragment of one choice. Its `text`, which repeats the delta's content, is left out."""

    delta: ResponseMessage | None = None
    role: Text = ""


class _ResponseBase(_SchemaModel):
    id: Text = ""
    object: Text = ""
    created: Seconds = None
    model: Text = ""
    system_fingerprint: Text = ""
    usage: OptionalUsage = None
    warnings: OptionalWarnings = None
    error: Error = None


class ResponsePrompt(_SchemaModel):
    """One echoed prompt."""

    text: Text = ""
    logprobs: LogprobsOrNumber = None


class Completion(_ResponseBase):
    """The body of a unary response."""

    choices: list[ResponseChoice] | None = None
    prompt: Annotated[list[ResponsePrompt] | None, _OrDefault(None)] = None


class Chunk(_ResponseBase):
    """The data of one event of a stream."""

    choices: list[ChunkChoice] | None = None


class ModelPricing(_SchemaModel):
    """USD: `input`, `output` and `cached_input` per million tokens, `hourly` per hour."""

    input: Price = None
    output: Price = None
    cached_input: Price = None
    hourly: Price = None


class ModelConfig(_SchemaModel):
    """The configuration of a model's engine. Undocumented, and in recorded lists."""

    max_output_length: Tokens = None


class ModelEntry(_SchemaModel):
    """One entry of the model list."""

    id: Annotated[str, Field(min_length=1)]
    created: Seconds = None
    type: Text = ""
    display_name: Text = ""
    organization: Text = ""
    link: Text = ""
    license: Text = ""
    context_length: Tokens = None
    config: Annotated[ModelConfig | None, _OrDefault(None)] = None
    pricing: Annotated[ModelPricing | None, _OrDefault(None)] = None


_Entries = list[Annotated[ModelEntry | None, _OrDefault(None)]]


class _ModelList(_SchemaModel):
    data: _Entries


_COMPLETION: Final = TypeAdapter(Completion)
_CHUNK: Final = TypeAdapter(Chunk)
_ERROR: Final = TypeAdapter(_ErrorResponse)
# A union is not a `_SchemaModel` and would show its input.
_MODELS: Final[TypeAdapter[_ModelList | _Entries]] = TypeAdapter(
    _ModelList | _Entries, config=ConfigDict(hide_input_in_errors=True, cache_strings="keys")
)

T = TypeVar("T")


def parse_completion(body: bytes) -> Completion:
    """Parse a unary response. Raises `ServiceError` UPSTREAM_MALFORMED_RESPONSE."""
    completion = _parse(_COMPLETION, body)
    if completion.error is not None:
        completion.error = parse_error(body)
    return completion


def parse_chunk(data: bytes) -> Chunk:
    """Parse the data of one event. Raises `ServiceError` UPSTREAM_MALFORMED_RESPONSE.

    Engines with Together's API also send errors without a wrapper, as `{"object": "error", ...}`.
    """
    chunk = _parse(_CHUNK, data)
    if chunk.error is not None or chunk.object == "error":
        chunk.error = parse_error(data)
    return chunk


def parse_models(body: bytes) -> list[ModelEntry]:
    """Parse the model list, bare or in `data`; invalid entries are left out.

    Raises:
        ServiceError: UPSTREAM_MALFORMED_RESPONSE.
    """
    parsed = _parse(_MODELS, body)
    entries = parsed.data if isinstance(parsed, _ModelList) else parsed
    return [entry for entry in entries if entry is not None]


def parse_error(body: bytes) -> ErrorBody | None:
    """Parse the body of a failure; None if it is not a JSON object (text, HTML, nothing)."""
    try:
        outer = _parse(_ERROR, body)
    except ServiceError:
        return None
    inner = outer.error or ErrorBody()
    return ErrorBody(
        message=inner.message or outer.message,
        type=inner.type or outer.type,
        code=inner.code or outer.code,
        error_type=inner.error_type or outer.error_type,
        status=inner.status if inner.status is not None else outer.status,
    )


def _parse(adapter: TypeAdapter[T], data: bytes) -> T:
    try:
        return adapter.validator.validate_json(data)  # the adapter checks its arguments first, for 0.3 us
    except ValidationError:
        return _parse_repaired(adapter, data)


def _parse_repaired(adapter: TypeAdapter[T], data: bytes) -> T:
    try:
        return adapter.validate_json(repaired(data))
    except ValidationError as error:
        raise ServiceError(
            Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's response is not JSON of the expected shape"
        ) from error


_ESCAPE = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"  # a pair: a complete character
    r"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"  # half of a pair
    r"|(\\.)",  # any other escape, so that the `u` behind an escaped backslash does not match
    re.DOTALL,
)


def repaired(data: bytes) -> str:
    """Return the JSON text without a byte order mark. Invalid UTF-8 and lone surrogates become U+FFFD."""
    text = data.decode("utf-8-sig", "replace")
    return _ESCAPE.sub(lambda match: match[1] or match[2] or r"\ufffd", text)
