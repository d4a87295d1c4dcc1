"""The body of `POST /v1/chat/completions` as pydantic models: supported fields, types and ranges.

The checks are stricter than the real API, which accepted at least one `max_tokens` of a wrong
type: a mistake in a client should show here first. Undocumented fields are ignored.
"""

from enum import Enum
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from togetherchat_sandbox.encoding import Json, as_object

Role: TypeAlias = Literal["assistant", "developer", "function", "system", "tool", "user"]
NonEmptyText: TypeAlias = Annotated[StrictStr, Field(min_length=1)]
AnyObject: TypeAlias = dict[str, object]


class OutputFormat(Enum):
    """The required format of the completion: the values of `response_format.type`."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"


class PartFields(BaseModel):
    """A part of a message's content; a part without text is an attachment."""

    text: object = None


class CalledFunctionFields(BaseModel):
    """The function of an earlier call."""

    name: StrictStr = ""


class CallFields(BaseModel):
    """An earlier call."""

    function: CalledFunctionFields = CalledFunctionFields()


class MessageFields(BaseModel):
    """A message. A text is a single part; only an assistant may have no content."""

    role: Role
    tool_calls: list[CallFields] | None = None
    content: list[PartFields] = Field(default=None, validate_default=True)

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: object, info: ValidationInfo) -> object:
        if content is None and info.data.get("role") == "assistant":
            return []
        if isinstance(content, str):
            return [PartFields(text=content)]
        if not isinstance(content, list):
            raise PydanticCustomError("content", "Input should be a string or an array of parts")
        return content  # pyright: ignore[reportUnknownVariableType]


class FunctionFields(BaseModel):
    """A function, with the JSON schema of its arguments."""

    name: NonEmptyText
    parameters: AnyObject | None = None


class ToolFields(BaseModel):
    """A tool."""

    function: FunctionFields


class StreamOptionsFields(BaseModel):
    """Options of a stream."""

    include_usage: StrictBool | None = None


class JsonSchemaFields(BaseModel):
    """A named JSON schema."""

    name: NonEmptyText
    body: AnyObject | None = Field(default=None, alias="schema")


class ResponseFormatFields(BaseModel):
    """The required format. In 2024, `schema` was here and not in `json_schema`."""

    type: OutputFormat = OutputFormat.TEXT
    json_schema: JsonSchemaFields | None = None
    body: AnyObject | None = Field(default=None, alias="schema")
    pattern: StrictStr | None = None


class ReasoningFields(BaseModel):
    """The switch of reasoning."""

    enabled: StrictBool | None = None


class TemplateFields(BaseModel):
    """The switches of reasoning that some models' chat templates have."""

    thinking: StrictBool | None = None
    enable_thinking: StrictBool | None = None


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _function_name(choice: object) -> object:
    """Return the name in `{"type": "function", "function": {"name": ...}}`."""
    if not isinstance(choice, dict):
        return choice
    function = as_object(as_object(cast("Json", choice)).get("function"))
    return function.get("name")


class ChatRequestFields(BaseModel):
    """The request. The ranges are those of the published schema; both ends are valid."""

    model: NonEmptyText
    messages: Annotated[list[MessageFields], Field(min_length=1)]
    temperature: Annotated[StrictFloat | None, Field(ge=0, le=2)] = None
    top_p: Annotated[StrictFloat | None, Field(ge=0, le=1)] = None
    min_p: Annotated[StrictFloat | None, Field(ge=0, le=1)] = None
    presence_penalty: Annotated[StrictFloat | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[StrictFloat | None, Field(ge=-2, le=2)] = None
    repetition_penalty: Annotated[StrictFloat | None, Field(ge=0, le=100)] = None
    max_tokens: Annotated[StrictInt | None, Field(ge=1, le=2**31 - 1)] = None
    n: Annotated[StrictInt, Field(ge=1, le=128)] = 1
    logprobs: Annotated[StrictInt | None, Field(ge=0, le=20)] = None
    top_k: Annotated[StrictInt | None, Field(ge=-1, le=2**31 - 1)] = None
    seed: Annotated[StrictInt | None, Field(ge=-(2**63), le=2**64 - 1)] = None
    stream: StrictBool = False
    echo: StrictBool = False
    stop: Annotated[list[StrictStr], BeforeValidator(_as_list)] = []
    logit_bias: AnyObject | None = None
    stream_options: StreamOptionsFields = StreamOptionsFields()
    context_length_exceeded_behavior: StrictStr | None = None
    tools: list[ToolFields] = []
    tool_choice: Annotated[StrictStr, BeforeValidator(_function_name)] = "auto"
    parallel_tool_calls: StrictBool = True
    response_format: ResponseFormatFields = ResponseFormatFields()
    reasoning: ReasoningFields = ReasoningFields()
    prompt_cache_key: StrictStr | None = None
    user: StrictStr | None = None
    chat_template_kwargs: TemplateFields = TemplateFields()

    @field_validator("tool_choice")
    @classmethod
    def _is_a_tool(cls, choice: str, info: ValidationInfo) -> str:
        tools: list[ToolFields] = info.data.get("tools", [])
        names = {tool.function.name for tool in tools}
        if choice in {"auto", "none"} or choice in names or (choice == "required" and names):
            return choice
        raise PydanticCustomError("tool_choice", "Input should be the name of a function of `tools`")
