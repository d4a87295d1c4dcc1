"""A request of OpenAI's chat API as a request of ours.

Owns what becomes of every member: translated, ignored by name, refused by name, or handed on
as it is. Pure. Whether what comes out is allowed is judged in `calls`, as for every front.

- Translated: what the contract has a field for.
- Ignored and named in `x-togetherchat-ignored`: what Together documents as ignored, what
  identifies the end user (Together has no place for it), and members of messages, parts and
  tools that are not known, for which there is no place to travel in.
- Refused: what would leave an answer that is not the one asked for.
- Handed on: members of the request itself that are not known.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason, ServiceError, Violation
from togetherchat_server.frontends.http.openai import schema

IGNORED: Final = frozenset({"metadata", "prediction", "safety_identifier", "service_tier", "store", "user"})

REFUSED: Final[Mapping[str, str]] = {
    "audio": "this service answers with text alone",
    "function_call": "use `tool_choice`",
    "functions": "use `tools`",
    "web_search_options": "Together has no web search",
}
REFUSED_IN_MESSAGES: Final[Mapping[str, str]] = {
    "audio": "Together takes no earlier audio answer",
    "function_call": "use `tool_calls`",
    "prefix": "Together cannot continue a message that is begun",
    "refusal": "put the text into `content`",
}
"""Names -> what to do instead. Everything else that is not known is not known to be missed."""

SCALARS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "seed",
    "echo",
    "reasoning_effort",
    "safety_model",
    "context_length_exceeded_behavior",
    "compliance",
    "prompt_cache_key",
)
"""Members that carry the same name and meaning on both sides."""

ROLES: Final[Mapping[str, chat.Role.ValueType]] = {
    "system": chat.ROLE_SYSTEM,
    "developer": chat.ROLE_DEVELOPER,
    "user": chat.ROLE_USER,
    "assistant": chat.ROLE_ASSISTANT,
    "tool": chat.ROLE_TOOL,
}

TOOL_CHOICES: Final[Mapping[str, chat.ToolChoiceMode.ValueType]] = {
    "auto": chat.TOOL_CHOICE_MODE_AUTO,
    "none": chat.TOOL_CHOICE_MODE_NONE,
    "required": chat.TOOL_CHOICE_MODE_REQUIRED,
}

SCHEMA_NAME: Final = "answer"
"""For Together's form of 2024, whose schemas have no name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What is asked, and how the answer is to be written."""

    request: service.CompleteRequest
    stream: bool
    include_usage: bool
    """Whether a stream ends with a chunk that counts its tokens."""
    alternatives: bool
    """Whether log probabilities are to show the tokens that were not chosen."""
    ignored: tuple[str, ...]


def read(body: bytes) -> ChatRequest:
    """The inquiry that a body is. Raises `ServiceError` INVALID_REQUEST."""
    asked = schema.parse_request(body)
    remarks = _Remarks()
    request = service.CompleteRequest(
        model=asked.model, messages=[_message(turn, remarks) for turn in asked.messages]
    )
    for name in SCALARS:
        value = getattr(asked, name)
        if value is not None:
            setattr(request, name, value)
    _add_limits(request, asked)
    _add_tools(request, asked, remarks)
    if asked.response_format is not None:
        _add_response_format(request.response_format, asked.response_format, remarks)
    _add_reasoning(request, asked, remarks)
    _add_rest(request, asked, remarks)
    if asked.stream_options is not None:
        remarks.note("stream_options", asked.stream_options)
    return ChatRequest(
        request=request,
        stream=bool(asked.stream),
        include_usage=asked.stream_options is not None and bool(asked.stream_options.include_usage),
        alternatives=bool(asked.top_logprobs) or not isinstance(asked.logprobs, bool),
        ignored=tuple(remarks.ignored),
    )


@final
class _Remarks:
    """The names of what was left out, each once, in the order of the request."""

    def __init__(self) -> None:
        self.ignored: dict[str, None] = {}

    def note(self, place: str, holder: schema.RequestSchema) -> None:
        if holder.model_extra:
            self.ignored |= dict.fromkeys(f"{place}.{name}" for name in holder.extra())


def _refused(field: str, description: str) -> ServiceError:
    violation = Violation(field=field, description=description)
    return ServiceError(Reason.INVALID_REQUEST, f"{field}: {description}", violations=(violation,))


def _message(turn: schema.Message, remarks: _Remarks) -> chat.Message:
    message = chat.Message(role=ROLES[turn.role])
    if isinstance(turn.content, str):
        message.content.add().text = turn.content
    elif turn.content is not None:
        message.content.extend([_part(part, remarks) for part in turn.content])
    if turn.name is not None:
        message.name = turn.name
    if turn.tool_call_id is not None:
        message.tool_call_id = turn.tool_call_id
    if turn.tool_calls:
        message.tool_calls.extend([_called(call, remarks) for call in turn.tool_calls])
    if turn.reasoning:
        message.reasoning, message.reasoning_key = turn.reasoning, "reasoning"
    elif turn.reasoning_content:
        message.reasoning, message.reasoning_key = turn.reasoning_content, "reasoning_content"
    if turn.model_extra:
        _refuse_any(turn.extra(), REFUSED_IN_MESSAGES, "messages[].")
        remarks.note("messages[]", turn)
    return message


def _refuse_any(present: Mapping[str, object], table: Mapping[str, str], place: str) -> None:
    for name, value in present.items():
        if name in table and value not in (None, False, "", [], {}):
            raise _refused(f"{place}{name}", f"cannot be served: {table[name]}")


def _part(part: schema.Part, remarks: _Remarks) -> chat.ContentPart:
    if part.model_extra:
        remarks.note("messages[].content[]", part)
    match part:
        case schema.Part(type="text", text=str(text)):
            return chat.ContentPart(text=text)
        case schema.Part(type="image_url", image_url=schema.ImageUrl(url=url)):
            return chat.ContentPart(image=chat.Image(url=url))
        case schema.Part(type="video_url", video_url=schema.Url(url=url)):
            return chat.ContentPart(video_url=url)
        case schema.Part(type="audio_url", audio_url=schema.Url(url=url)):
            return chat.ContentPart(audio_url=url)
        case schema.Part(type="input_audio", input_audio=schema.InputAudio() as audio):
            return chat.ContentPart(audio=chat.Audio(data=_recording(audio.data), format=audio.format))
        case _:
            raise _refused("messages[].content[]", f"a part of type {part.type} needs its {part.type}")


def _recording(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("messages[].content[].input_audio.data", "must be base64") from None


def _called(call: schema.ToolCall, remarks: _Remarks) -> chat.ToolCall:
    if call.model_extra:
        remarks.note("messages[].tool_calls[]", call)
    function = chat.FunctionCall(name=call.function.name, arguments=call.function.arguments)
    return chat.ToolCall(id=call.id, function=function)


def _add_limits(request: service.CompleteRequest, asked: schema.Request) -> None:
    limits = {asked.max_tokens, asked.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise _refused("max_completion_tokens", "differs from max_tokens, which means the same")
    for limit in limits:
        if limit is not None:
            request.max_tokens = limit
    if asked.stop is not None:
        request.stop.extend([asked.stop] if isinstance(asked.stop, str) else asked.stop)
    if asked.logit_bias:
        request.logit_bias.update(asked.logit_bias)
    if asked.fallback_models:
        request.fallback_models.extend(asked.fallback_models)
    _add_logprobs(request, asked)


def _add_logprobs(request: service.CompleteRequest, asked: schema.Request) -> None:
    """OpenAI asks with a switch and a number, Together with the number alone, 0 to 20.

    Whether 0 gives Together's log probabilities without alternatives is not documented: 1 does
    give them, and the alternative is left out of the answer.
    """
    wanted, alternatives = asked.logprobs, asked.top_logprobs
    if alternatives is not None and not wanted:
        raise _refused("top_logprobs", "needs logprobs to be true")
    if wanted is True:
        request.logprobs = max(1, alternatives or 0)
    elif wanted is not None and wanted is not False:
        request.logprobs = wanted if alternatives is None else alternatives


def _add_tools(request: service.CompleteRequest, asked: schema.Request, remarks: _Remarks) -> None:
    for tool in asked.tools or ():
        request.tools.append(_tool(tool, remarks))
    choice = asked.tool_choice
    if isinstance(choice, str):
        request.tool_choice.mode = TOOL_CHOICES[choice]
    elif choice is not None:
        request.tool_choice.function_name = choice.function.name


def _tool(tool: schema.Tool, remarks: _Remarks) -> chat.Tool:
    function = tool.function
    if tool.model_extra:
        remarks.note("tools[]", tool)
    if function.model_extra:
        remarks.note("tools[].function", function)
    return chat.Tool(
        function=chat.FunctionTool(
            name=function.name,
            description=function.description or "",
            parameters_json=_json(function.parameters),
            strict=function.strict,
        )
    )


def _add_response_format(
    response_format: chat.ResponseFormat, asked: schema.ResponseFormat, remarks: _Remarks
) -> None:
    remarks.note("response_format", asked)
    kind = asked.type
    if asked.schema_ is not None and asked.json_schema is None and kind in {"json_object", "json_schema"}:
        response_format.json_schema.name = SCHEMA_NAME
        response_format.json_schema.schema_json = _json(asked.schema_)
        return
    match kind:
        case "text":
            response_format.text.SetInParent()
        case "json_object":
            response_format.json_object.SetInParent()
        case "json_schema":
            _add_json_schema(response_format.json_schema, asked.json_schema, remarks)
        case "regex":
            if not asked.pattern:
                raise _refused("response_format.pattern", "is required with regex")
            response_format.regex = asked.pattern
        case _:
            assert_never(kind)


def _add_json_schema(
    json_schema: chat.JsonSchemaFormat, asked: schema.JsonSchema | None, remarks: _Remarks
) -> None:
    if asked is None:
        raise _refused("response_format.json_schema", "is required with json_schema")
    remarks.note("response_format.json_schema", asked)
    json_schema.name = asked.name
    json_schema.description = asked.description or ""
    json_schema.schema_json = _json(asked.schema_)
    if asked.strict is not None:
        json_schema.strict = asked.strict


def _add_reasoning(request: service.CompleteRequest, asked: schema.Request, remarks: _Remarks) -> None:
    if asked.chat_template_kwargs is not None:
        request.chat_template_kwargs_json = _json(asked.chat_template_kwargs)
    if asked.reasoning is None:
        return
    remarks.note("reasoning", asked.reasoning)
    if asked.reasoning.enabled is not None:
        request.reasoning_enabled = asked.reasoning.enabled
    if asked.reasoning.effort and not request.reasoning_effort:
        request.reasoning_effort = asked.reasoning.effort


def _add_rest(request: service.CompleteRequest, asked: schema.Request, remarks: _Remarks) -> None:
    """The members that have no field: ignored, refused or handed on."""
    if not asked.model_extra:
        return
    rest = asked.extra()
    _refuse_any(rest, REFUSED, "")
    modalities = rest.get("modalities")
    if modalities not in (None, ["text"]):
        raise _refused("modalities", "cannot be served: this service answers with text alone")
    dropped = IGNORED | REFUSED.keys() | {"modalities"}
    remarks.ignored |= dict.fromkeys(_named(rest, IGNORED))
    handed_on = {name: value for name, value in rest.items() if name not in dropped}
    if handed_on:
        request.extra_body_json = _json(handed_on)


def _named(present: Iterable[str], names: frozenset[str]) -> list[str]:
    return [name for name in present if name in names]


def _json(value: Mapping[str, object] | None) -> str:
    """JSON text again, in the caller's order."""
    return "" if value is None else schema.to_json(value)
