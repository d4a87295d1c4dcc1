"""Together's JSON as it really comes: the fields that are used, and nothing of what they mean.

Owns the shapes of answers and the reading of hostile bytes. Knows no message of ours.

Two kinds of field. What carries the answer (choices, content, tool calls) is strict: the
wrong shape is a malformed answer, because leaving it out would make an answer that nobody
gave. What informs (ids, times, seeds, counts, log probabilities) is lenient: null, the
wrong type or a number out of range reads as absent, because no caller should lose an
answer over it. So no number outside its protobuf field's range gets past this file.

JSON is read by pydantic's own parser, in one pass. It refuses what protobuf could not carry
or the interpreter could not survive: invalid UTF-8, lone surrogates, nesting beyond 200,
integers of more than 4,300 digits. The first two happen to honest models that cut a
character in half, so a text that was refused is repaired and read once more.
"""

import math
import re
from decimal import Decimal
from typing import Annotated, Final, TypeVar

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
"""More choices or tool calls than anyone has: a larger index is noise."""
UINT64_MAX: Final = 2**64 - 1
SECONDS_MAX: Final = 253_402_300_799
"""The last second that a protobuf Timestamp holds: the end of the year 9999."""


class _Or:
    """Reads what does not fit as `default`. Runs inside pydantic's compiled validator."""

    def __init__(self, default: object) -> None:
        self._default = default

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=self._default, on_error="default")


def _uint64(value: object) -> int | None:
    """Seeds come as integers beyond int64, and as floats where JavaScript printed them.

    Such a float means its shortest decimal form: 1.592476422325145e19 is 15924764223251450000,
    not the 15924764223251449856 that the double holds.
    """
    if isinstance(value, float) and math.isfinite(value) and abs(value) <= UINT64_MAX:
        value = int(Decimal(repr(value))) if value.is_integer() else None
    return value if isinstance(value, int) and 0 <= value <= UINT64_MAX else None


def _word(value: object) -> str:
    """Codes come as words and as numbers."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= UINT64_MAX:
        return str(value)
    return value if isinstance(value, str) else ""


def _error(value: object) -> object:
    """`error` is an object, a text or anything truthy at all."""
    match value:
        case str() if value:
            return {"message": value}
        case dict():
            return value or None  # pyright: ignore[reportUnknownVariableType]  it is validated next
        case _:
            return {} if value else None


Text = Annotated[str, _Or("")]
Word = Annotated[str, BeforeValidator(_word)]
Count = Annotated[Annotated[int, Field(ge=0, le=INT32_MAX)] | None, _Or(None)]
Index = Annotated[Annotated[int, Field(ge=0, le=INDEX_MAX)] | None, _Or(None)]
Seconds = Annotated[Annotated[int, Field(gt=0, le=SECONDS_MAX)] | None, _Or(None)]
Number = Annotated[Annotated[float, Field(allow_inf_nan=False)] | None, _Or(None)]
Price = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, _Or(None)]
Seed = Annotated[int | None, BeforeValidator(_uint64)]
TokenBytes = Annotated[list[Annotated[int, Field(ge=0, le=255)]] | None, _Or(None)]
Alternatives = Annotated[dict[str, Number] | None, _Or(None)]
"""The most likely tokens at one place, with their log probabilities."""


class _Wire(BaseModel):
    """`hide_input_in_errors`: an exception must not carry a prompt or an answer into a log.
    `cache_strings`: by default the parser keeps the last 16,384 short texts of answers for later.
    """

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, cache_strings="keys")


class ErrorBody(_Wire):
    """What the provider says about a failure, out of any of its shapes."""

    message: Annotated[Text, Field(validation_alias=AliasChoices("message", "detail"))] = ""
    type: Word = ""
    code: Word = ""
    error_type: Word = ""
    status: Annotated[Count, Field(validation_alias=AliasChoices("status", "status_code"))] = None


Error = Annotated[ErrorBody | None, BeforeValidator(_error)]


class _ErrorAnswer(ErrorBody):
    """A body with `error` in it, or one that is the error itself."""

    error: Error = None


class PromptDetails(_Wire):
    """Where some models count what came from the cache."""

    cached_tokens: Count = None


class CompletionDetails(_Wire):
    """Where some models count thinking."""

    reasoning_tokens: Count = None


class Usage(_Wire):
    """Token counts; the two last and the details differ from model to model."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    cached_tokens: Count = None
    reasoning_tokens: Count = None
    prompt_tokens_details: Annotated[PromptDetails | None, _Or(None)] = None
    completion_tokens_details: Annotated[CompletionDetails | None, _Or(None)] = None


class Remark(_Wire):
    """A warning about an answer."""

    message: Text = ""


class TopEntry(_Wire):
    """An alternative, in OpenAI's shape."""

    token: str
    logprob: Number = None
    bytes: TokenBytes = None


class TokenEntry(TopEntry):
    """OpenAI's shape: one object a token."""

    top_logprobs: Annotated[list[TopEntry] | None, _Or(None)] = None


class Logprobs(_Wire):
    """Together's shape, parallel arrays, and OpenAI's `content`."""

    tokens: Annotated[list[str] | None, _Or(None)] = None
    token_logprobs: Annotated[list[Number] | None, _Or(None)] = None
    token_ids: Annotated[list[Count] | None, _Or(None)] = None
    top_logprobs: Annotated[list[Alternatives] | dict[str, Number] | None, _Or(None)] = None
    content: Annotated[list[TokenEntry] | None, _Or(None)] = None


LogprobsOrNumber = Annotated[Logprobs | Annotated[float, Field(allow_inf_nan=False)] | None, _Or(None)]
"""A stream's shape is a bare number: the log probability of the chunk's one token."""

OptionalUsage = Annotated[Usage | None, _Or(None)]
OptionalRemarks = Annotated[list[Remark | str] | None, _Or(None)]


class Function(_Wire):
    """What a tool call calls. `arguments` is JSON as text, or a piece of it."""

    name: Text = ""
    arguments: str | None = None


class ToolCall(_Wire):
    """A call, or in a stream a fragment of one."""

    index: Index = None
    id: Text = ""
    function: Function | None = None


class Message(_Wire):
    """An answer, or in a stream a fragment of one."""

    role: Text = ""
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    token_id: Count = None


class _AnyChoice(_Wire):
    index: Index = None
    finish_reason: Text = ""
    seed: Seed = None
    logprobs: LogprobsOrNumber = None
    top_logprobs: Alternatives = None
    usage: OptionalUsage = None


class Choice(_AnyChoice):
    """One of the answers."""

    message: Message


class ChunkChoice(_AnyChoice):
    """A fragment of one of the answers. Its `text`, which repeats the delta's content, is left out."""

    delta: Message | None = None
    role: Text = ""


class _AnyAnswer(_Wire):
    id: Text = ""
    object: Text = ""
    created: Seconds = None
    model: Text = ""
    system_fingerprint: Text = ""
    usage: OptionalUsage = None
    warnings: OptionalRemarks = None
    error: Error = None


class PromptEntry(_Wire):
    """One echoed prompt."""

    text: Text = ""
    logprobs: LogprobsOrNumber = None


class Completion(_AnyAnswer):
    """The body of a unary answer."""

    choices: list[Choice] | None = None
    prompt: Annotated[list[PromptEntry] | None, _Or(None)] = None


class Chunk(_AnyAnswer):
    """The data of one event of a stream."""

    choices: list[ChunkChoice] | None = None


class Pricing(_Wire):
    """USD: `input`, `output` and `cached_input` for a million tokens, `hourly` for an hour."""

    input: Price = None
    output: Price = None
    cached_input: Price = None
    hourly: Price = None


class ModelEntry(_Wire):
    """One entry of the models list."""

    id: Annotated[str, Field(min_length=1)]
    created: Seconds = None
    type: Text = ""
    display_name: Text = ""
    organization: Text = ""
    link: Text = ""
    license: Text = ""
    context_length: Annotated[Annotated[int, Field(gt=0, le=INT32_MAX)] | None, _Or(None)] = None
    pricing: Annotated[Pricing | None, _Or(None)] = None


_Entries = list[Annotated[ModelEntry | None, _Or(None)]]


class _ModelList(_Wire):
    data: _Entries


_COMPLETION: Final = TypeAdapter(Completion)
_CHUNK: Final = TypeAdapter(Chunk)
_ERROR: Final = TypeAdapter(_ErrorAnswer)
# A union is no `_Wire` and would show its input.
_MODELS: Final[TypeAdapter[_ModelList | _Entries]] = TypeAdapter(
    _ModelList | _Entries, config=ConfigDict(hide_input_in_errors=True, cache_strings="keys")
)

T = TypeVar("T")


def parse_completion(body: bytes) -> Completion:
    """A unary answer. Raises `ServiceError` UPSTREAM_MALFORMED_RESPONSE."""
    completion = _parse(_COMPLETION, body)
    if completion.error is not None:
        completion.error = parse_error(body)
    return completion


def parse_chunk(data: bytes) -> Chunk:
    """One event's data. Raises `ServiceError` UPSTREAM_MALFORMED_RESPONSE.

    Engines that speak Together's API also send errors bare, as `{"object": "error", ...}`.
    """
    chunk = _parse(_CHUNK, data)
    if chunk.error is not None or chunk.object == "error":
        chunk.error = parse_error(data)
    return chunk


def parse_models(body: bytes) -> list[ModelEntry]:
    """The models list, bare or in `data`; entries that cannot be used are left out.

    Raises:
        ServiceError: UPSTREAM_MALFORMED_RESPONSE.
    """
    parsed = _parse(_MODELS, body)
    entries = parsed.data if isinstance(parsed, _ModelList) else parsed
    return [entry for entry in entries if entry is not None]


def parse_error(body: bytes) -> ErrorBody | None:
    """What a failure's body says; None where it is not a JSON object (text, HTML, nothing)."""
    try:
        answer = _parse(_ERROR, body)
    except ServiceError:
        return None
    inner = answer.error or ErrorBody()
    return ErrorBody(
        message=inner.message or answer.message,
        type=inner.type or answer.type,
        code=inner.code or answer.code,
        error_type=inner.error_type or answer.error_type,
        status=inner.status if inner.status is not None else answer.status,
    )


def _parse(adapter: TypeAdapter[T], data: bytes) -> T:
    try:
        return adapter.validate_json(data)
    except ValidationError:
        return _parse_repaired(adapter, data)


def _parse_repaired(adapter: TypeAdapter[T], data: bytes) -> T:
    try:
        return adapter.validate_json(repaired(data))
    except ValidationError as error:
        raise ServiceError(
            Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's answer is not the JSON it should be"
        ) from error


_ESCAPE = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"  # a pair: a whole character
    r"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"  # half of one, alone
    r"|(\\.)",  # any other escape, so that an escaped backslash hides the `u` behind it
    re.DOTALL,
)


def repaired(data: bytes) -> str:
    """JSON text without a byte order mark, invalid UTF-8 or lone surrogates: those become U+FFFD."""
    text = data.decode("utf-8-sig", "replace")
    return _ESCAPE.sub(lambda found: found[1] or found[2] or r"\ufffd", text)
