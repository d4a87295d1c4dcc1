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
was rejected is repaired and parsed once more. The texts of a completion then have their halves, as
`split_characters` describes them, for what continues them; all others have U+FFFD instead.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self, TypeVar, cast

import pydantic_core
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.providers.together.error_body import (
    ErrorBody,
    read_body,
    read_member,
    reports_failure,
)

INT32_MAX: Final = 2**31 - 1
INDEX_MAX: Final = 2**16 - 1
"""More choices or tool calls than any response has: a larger index is noise."""
UINT64_MAX: Final = 2**64 - 1
ERROR_FINISH_REASON: Final = "error"
"""The finish reason of a choice that failed, as OpenRouter documents it."""
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


def _uint64(value: object) -> int | None:
    """Read a seed: an integer, possibly beyond int64, or a float if JavaScript printed it.

    Such a float means its shortest decimal form: 1.592476422325145e19 is 15924764223251450000,
    not the 15924764223251449856 that the double holds.
    """
    if isinstance(value, float) and math.isfinite(value) and abs(value) <= UINT64_MAX:
        value = int(Decimal(repr(value))) if value.is_integer() else None
    return value if isinstance(value, int) and 0 <= value <= UINT64_MAX else None


Text = Annotated[str, _OrDefault("")]
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


Error = Annotated[ErrorBody | None, BeforeValidator(read_member)]


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
    """A text of a content that is a list. A part of another type than those here cannot be returned."""

    type: Literal["text"] = "text"
    text: str


class ThinkingPart(_SchemaModel):
    """Reasoning in a content that is a list: a text, or a list of texts as Mistral sends it."""

    type: Literal["thinking"]
    thinking: str | list[TextPart]


class RefusalPart(_SchemaModel):
    """A refusal in a content that is a list, in OpenAI's format."""

    type: Literal["refusal"]
    refusal: str


ContentPart = TextPart | ThinkingPart | RefusalPart


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
    """A message of the model, or in a stream a fragment of one.

    Some engines send content as a list, and some a tool call in OpenAI's format of 2023.
    """

    role: Text = ""
    content: Annotated[str | list[ContentPart] | None, Field(union_mode="left_to_right")] = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ResponseToolCall] | None = None
    function_call: ResponseFunction | None = None
    token_id: Count = None


class _ChoiceBase(_SchemaModel):
    index: Index = None
    finish_reason: Text = ""
    seed: Seed = None
    logprobs: LogprobsOrNumber = None
    top_logprobs: Alternatives = None
    usage: OptionalUsage = None
    error: Error = None


class ResponseChoice(_ChoiceBase):
    """One choice of a unary response. Only a choice that failed may have no message."""

    message: ResponseMessage | None = None

    @model_validator(mode="after")
    def _has_a_message(self) -> Self:
        if self.message is None and self.error is None and self.finish_reason != ERROR_FINISH_REASON:
            raise ValueError("the choice has no message")
        return self


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
# A union is not a `_SchemaModel` and would show its input.
_MODELS: Final[TypeAdapter[_ModelList | _Entries]] = TypeAdapter(
    _ModelList | _Entries, config=ConfigDict(hide_input_in_errors=True, cache_strings="keys")
)

T = TypeVar("T")
Response = TypeVar("Response", Completion, Chunk)

# The members that lead to texts of the completion, and those texts. A unary response has whole texts;
# only the tokens beside their log probabilities can be halves.
_SPLIT_IN_CHUNKS: Final = frozenset(
    {"choices", "delta", "content", "reasoning", "reasoning_content", "refusal", "text", "thinking"}
    | {"tool_calls", "function_call", "function", "arguments", "logprobs", "tokens", "token"}
)
_SPLIT_IN_COMPLETIONS: Final = frozenset({"choices", "prompt", "logprobs", "tokens", "content", "token"})


def parse_completion(body: bytes) -> Completion:
    """Parse a unary response. Raises `ServiceError` UPSTREAM_MALFORMED_RESPONSE."""
    return _parse_response(_COMPLETION, Completion, body, _SPLIT_IN_COMPLETIONS)


def parse_chunk(data: bytes) -> Chunk:
    """Parse the data of one event. Raises `ServiceError` UPSTREAM_MALFORMED_RESPONSE."""
    return _parse_response(_CHUNK, Chunk, data, _SPLIT_IN_CHUNKS)


def parse_models(body: bytes) -> list[ModelEntry]:
    """Parse the model list, bare or in `data`; invalid entries are left out.

    Raises:
        ServiceError: UPSTREAM_MALFORMED_RESPONSE.
    """
    parsed = _parse(_MODELS, body)
    entries = parsed.data if isinstance(parsed, _ModelList) else parsed
    return [entry for entry in entries if entry is not None]


def parse_error(body: bytes) -> ErrorBody | None:
    """Parse the body of a failure; None if it has no JSON object (text, HTML, nothing)."""
    return read_body(_from_json(body))


def _parse_response(
    adapter: TypeAdapter[Response], empty: Callable[..., Response], data: bytes, split: frozenset[str]
) -> Response:
    """Parse a response. If the data describes a failure instead, whatever its shape, `error` is set."""
    try:
        response = _parse(adapter, data, split)
    except ServiceError:
        value = _from_json(data)
        if not reports_failure(value):
            raise
        return empty(error=read_body(value))
    if response.error is not None or response.choices is None or response.object == "error":
        value = _from_json(data)
        response.error = read_body(value) if reports_failure(value) else None
    return response


def _from_json(data: bytes) -> object:
    """Return parsed JSON; None if it is none, or beyond the bounds of the parser."""
    try:
        return cast("object", pydantic_core.from_json(repaired(data), cache_strings="none"))
    except ValueError:
        return None


def _parse(adapter: TypeAdapter[T], data: bytes, split: frozenset[str] = frozenset()) -> T:
    try:
        return adapter.validator.validate_json(data)  # the adapter checks its arguments first, for 0.3 us
    except ValidationError:
        return _parse_repaired(adapter, data, split)


def _parse_repaired(adapter: TypeAdapter[T], data: bytes, split: frozenset[str]) -> T:
    try:
        parsed = adapter.validate_json(repaired(data))
    except ValidationError as error:
        raise ServiceError(
            Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's response is not JSON of the expected shape"
        ) from error
    if split:
        # pydantic has accepted the text, but for the halves, which the standard library keeps.
        with suppress(ValueError):
            _with_halves(parsed, json.loads(data.decode("utf-8-sig", "surrogateescape")), split)
    return parsed


def _with_halves(parsed: object, raw: object, members: frozenset[str]) -> object:
    """Return texts as they are in `raw`, with halves of characters; change models in place."""
    match parsed, raw:
        case str(), str():
            return raw
        case list(), list():
            pairs = zip(cast("list[object]", parsed), cast("list[object]", raw), strict=False)
            return [_with_halves(one, other, members) for one, other in pairs]
        case BaseModel(), dict():
            source = cast("Mapping[str, object]", raw)
            for name in members & type(parsed).model_fields.keys() & source.keys():
                setattr(parsed, name, _with_halves(getattr(parsed, name), source[name], members))
            return parsed
        case _:
            return parsed


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
