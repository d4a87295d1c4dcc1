"""Translates a `CompleteRequest` to the JSON body of `POST /v1/chat/completions`.

The request has been validated. Whether Together accepts it is Together's decision. JSON text from
the caller (schemas, template options, extra members) is inserted byte for byte: parsing it would
turn 1.0 into 1, round large integers and lose unknown members.
Sources: the API reference of docs.together.ai, and recorded traffic where the two differ.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, assert_never

import orjson

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.providers.together.request_tool_calls import add_missing_ids

_Json = dict[str, object]

ROLES: Final[Mapping[chat.Role.ValueType, str]] = {
    chat.ROLE_SYSTEM: "system",
    chat.ROLE_DEVELOPER: "system",  # Together documents no `developer`
    chat.ROLE_USER: "user",
    chat.ROLE_ASSISTANT: "assistant",
    chat.ROLE_TOOL: "tool",
}

TOOL_CHOICES: Final[Mapping[chat.ToolChoiceMode.ValueType, str]] = {
    chat.TOOL_CHOICE_MODE_AUTO: "auto",
    chat.TOOL_CHOICE_MODE_NONE: "none",
    chat.TOOL_CHOICE_MODE_REQUIRED: "required",
}

REASONING_FIELDS: Final[Mapping[chat.ReasoningField.ValueType, str]] = {
    chat.REASONING_FIELD_UNSPECIFIED: "reasoning",
    chat.REASONING_FIELD_REASONING: "reasoning",
    chat.REASONING_FIELD_REASONING_CONTENT: "reasoning_content",
}

CONTEXT_LENGTH_EXCEEDED_BEHAVIORS: Final[Mapping[chat.ContextLengthExceededBehavior.ValueType, str]] = {
    chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR: "error",
    chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_TRUNCATE: "truncate",
}

SCALARS: Final = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "seed",
    "logprobs",
    "echo",
    "parallel_tool_calls",
)
"""Optional numbers and switches with the same name on both sides: zero is sent, unset is not."""

TEXTS: Final = (
    "reasoning_effort",
    "safety_model",
    "compliance",
    "prompt_cache_key",
)
"""Texts with the same name on both sides: empty is unset."""

ADAPTED_TEXTS: Final = frozenset({"reasoning_effort", "prompt_cache_key"})
"""The texts whose values are those of the `Adaptation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """The values of a request that may be replaced before it is sent; None and empty are unset."""

    reasoning_effort: str
    reasoning_enabled: bool | None
    prompt_cache_key: str

    @classmethod
    def unchanged(cls, request: service.CompleteRequest, *, prompt_cache_key: str | None = None) -> Self:
        """Return the request's own values, except a `prompt_cache_key` that is given."""
        return cls(
            reasoning_effort=request.reasoning_effort,
            reasoning_enabled=request.reasoning_enabled if request.HasField("reasoning_enabled") else None,
            prompt_cache_key=request.prompt_cache_key if prompt_cache_key is None else prompt_cache_key,
        )


def to_schema(
    request: service.CompleteRequest,
    *,
    stream: bool,
    forward_user: bool = True,
    adaptation: Adaptation | None = None,
) -> bytes:
    """Return the body of the POST, for `request.model` only: model routing tries the fallbacks.

    A stream always requests its usage; several models send none otherwise. Without `forward_user` the
    provider does not learn who the end user is. Without `adaptation` the request's own values are sent.
    """
    adapted = adaptation or Adaptation.unchanged(request)
    messages = [_message(message) for message in request.messages]
    add_missing_ids(messages)
    body: _Json = {"model": request.model, "messages": messages}
    body |= {name: getattr(request, name) for name in SCALARS if request.HasField(name)}
    texts = {name: getattr(adapted if name in ADAPTED_TEXTS else request, name) for name in TEXTS}
    body |= {name: text for name, text in texts.items() if text}
    if request.user and forward_user:
        body["user"] = request.user
    body |= _behavior(request.context_length_exceeded_behavior)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.logit_bias:
        body["logit_bias"] = dict(request.logit_bias)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.HasField("tool_choice"):
        body |= _tool_choice(request.tool_choice)
    if request.HasField("response_format"):
        body |= _response_format(request.response_format)
    body |= _reasoning(request, adapted)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return _with_members(orjson.dumps(body), request.extra_body_json)


def _behavior(behavior: chat.ContextLengthExceededBehavior.ValueType) -> _Json:
    word = CONTEXT_LENGTH_EXCEEDED_BEHAVIORS.get(behavior)
    return {} if word is None else {"context_length_exceeded_behavior": word}


def _reasoning(request: service.CompleteRequest, adapted: Adaptation) -> _Json:
    body: _Json = {}
    if adapted.reasoning_enabled is not None:
        body["reasoning"] = {"enabled": adapted.reasoning_enabled}
    if request.chat_template_kwargs_json:
        body["chat_template_kwargs"] = orjson.Fragment(request.chat_template_kwargs_json)
    return body


def _message(message: chat.Message) -> _Json:
    body: _Json = {"role": ROLES[message.role], "content": _content(message)}
    if message.name:
        body["name"] = message.name
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [_tool_call(index, call) for index, call in enumerate(message.tool_calls)]
    if message.reasoning:
        body[REASONING_FIELDS[message.reasoning_field]] = message.reasoning
    if message.refusal:
        body["refusal"] = message.refusal
    return body


def _content(message: chat.Message) -> object:
    """A single text is sent as a plain string, the only form that every role and model accepts."""
    parts = message.content
    if not parts:
        return None if message.tool_calls or message.refusal else ""
    if len(parts) == 1 and parts[0].WhichOneof("part") == "text":
        return parts[0].text
    return [_part(part) for part in parts]


def _part(part: chat.ContentPart) -> _Json:
    kind = part.WhichOneof("part")
    match kind:
        case "text" | None:
            return {"type": "text", "text": part.text}
        case "image":
            return {"type": "image_url", "image_url": {"url": _image_url(part.image)}}
        case "video_url":
            return {"type": "video_url", "video_url": {"url": part.video_url}}
        case "audio_url":
            return {"type": "audio_url", "audio_url": {"url": part.audio_url}}
        case "audio":
            audio = {"data": _base64(part.audio.data), "format": part.audio.format}
            return {"type": "input_audio", "input_audio": audio}
        case _:
            assert_never(kind)


def _image_url(image: chat.Image) -> str:
    if image.WhichOneof("source") == "data":
        return f"data:{image.media_type};base64,{_base64(image.data)}"
    return image.url


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _tool_call(index: int, call: chat.ToolCall) -> _Json:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"index": index, "id": call.id, "type": "function", "function": function}


def _tool(tool: chat.Tool) -> _Json:
    function: _Json = {"name": tool.function.name}
    if tool.function.description:
        function["description"] = tool.function.description
    if tool.function.parameters_json:
        function["parameters"] = orjson.Fragment(tool.function.parameters_json)
    if tool.function.HasField("strict"):
        function["strict"] = tool.function.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: chat.ToolChoice) -> _Json:
    """The object form is from Together's guides; the API reference shows the response's type there."""
    if choice.WhichOneof("choice") == "function_name":
        return {"tool_choice": {"type": "function", "function": {"name": choice.function_name}}}
    mode = TOOL_CHOICES.get(choice.mode)
    return {} if mode is None else {"tool_choice": mode}


def _response_format(response_format: chat.ResponseFormat) -> _Json:
    kind = response_format.WhichOneof("format")
    match kind:
        case None:
            return {}
        case "text" | "json_object":
            return {"response_format": {"type": kind}}
        case "json_schema":
            schema = _json_schema(response_format.json_schema)
            return {"response_format": {"type": kind, "json_schema": schema}}
        case "regex":
            return {"response_format": {"type": kind, "pattern": response_format.regex}}
        case _:
            assert_never(kind)


def _json_schema(json_schema: chat.JsonSchemaFormat) -> _Json:
    body: _Json = {"name": json_schema.name}
    if json_schema.description:
        body["description"] = json_schema.description
    if json_schema.schema_json:
        body["schema"] = orjson.Fragment(json_schema.schema_json)
    if json_schema.HasField("strict"):
        body["strict"] = json_schema.strict
    return body


def _with_members(body: bytes, extra_json: str) -> bytes:
    """`body` with the members of the JSON object `extra_json` appended to its own."""
    members = extra_json.strip(" \t\r\n")[1:-1]
    return body[:-1] + b"," + members.encode() + b"}" if members.strip(" \t\r\n") else body
