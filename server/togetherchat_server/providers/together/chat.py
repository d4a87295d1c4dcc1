"""A conversation as Together's JSON, and its whole answer as our message.

Owns the request body and the unary answer of `POST /v1/chat/completions`. Knows no HTTP;
what it is given has been validated, and whether Together accepts it is Together's to say.
JSON text of the caller's (schemas, template options, extra members) is spliced in as it
came: parsing it would turn 1.0 into 1, round large integers and lose what it did not expect.
Sources: the API reference of docs.together.ai and recorded traffic where they differ.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Final, assert_never

import orjson

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.errors import Kind, ServiceError
from togetherchat_server.providers.together import answer, failures, logprobs, wire
from togetherchat_server.secret import Secret

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
)
"""Optional numbers and switches that carry the same name on both sides: zero is sent, unset is not."""

TEXTS: Final = (
    "reasoning_effort",
    "safety_model",
    "context_length_exceeded_behavior",
    "compliance",
    "prompt_cache_key",
)
"""Texts that carry the same name on both sides: empty is unset."""


def to_wire(request: service.CompleteRequest, *, stream: bool) -> bytes:
    """The body of the POST, for `request.model` alone: fallbacks are the caller's to try.

    A stream always asks for its usage, without which several models send none.
    """
    body: _Json = {"model": request.model, "messages": [_message(message) for message in request.messages]}
    body |= {name: getattr(request, name) for name in SCALARS if request.HasField(name)}
    body |= {name: text for name in TEXTS if (text := getattr(request, name))}
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
    if request.HasField("reasoning_enabled"):
        body["reasoning"] = {"enabled": request.reasoning_enabled}
    if request.chat_template_kwargs_json:
        body["chat_template_kwargs"] = orjson.Fragment(request.chat_template_kwargs_json)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return _with_members(orjson.dumps(body), request.extra_body_json)


def from_wire(
    completion: wire.Completion, *, caller_brought_key: bool = False, secrets: tuple[Secret, ...] = ()
) -> service.CompleteResponse:
    """The whole answer; its `attempts` is left to whoever counted them.

    The two other arguments are for an error that came with status 200, see `failures`.

    Raises:
        ServiceError: the body is an error after all, or has no choice in it
            (UPSTREAM_MALFORMED_RESPONSE).
    """
    if completion.error is not None:
        raise failures.from_stream_error(
            completion.error, caller_brought_key=caller_brought_key, secrets=secrets
        )
    if not completion.choices:
        raise ServiceError(Kind.UPSTREAM_MALFORMED_RESPONSE, "the provider's answer has no choice in it")
    choices = [_choice(place, choice) for place, choice in enumerate(completion.choices)]
    choice_usages = [choice.usage for choice in completion.choices if choice.usage is not None]
    remarks = dict.fromkeys(answer.remarks(completion.warnings))
    return service.CompleteResponse(
        id=completion.id,
        model=completion.model,
        create_time=answer.create_time(completion.created),
        choices=sorted(choices, key=lambda choice: choice.index),
        usage=answer.usage(completion.usage, choice_usages[-1] if choice_usages else None, pieces=0),
        system_fingerprint=completion.system_fingerprint,
        warnings=[chat.Warning(message=remark) for remark in remarks],
        prompt=[_echoed(entry) for entry in completion.prompt or ()],
    )


def _message(message: chat.Message) -> _Json:
    body: _Json = {"role": ROLES[message.role], "content": _content(message)}
    if message.name:
        body["name"] = message.name
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [_tool_call(place, call) for place, call in enumerate(message.tool_calls)]
    if message.reasoning:
        body[message.reasoning_key or "reasoning"] = message.reasoning
    return body


def _content(message: chat.Message) -> object:
    """One text is a plain string, the only form that every role and model takes."""
    parts = message.content
    if not parts:
        return None if message.tool_calls else ""
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


def _tool_call(place: int, call: chat.ToolCall) -> _Json:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"index": place, "id": call.id, "type": "function", "function": function}


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
    """The object form is that of Together's guides; the API reference has the answer's type there."""
    if choice.WhichOneof("choice") == "function_name":
        return {"tool_choice": {"type": "function", "function": {"name": choice.function_name}}}
    word = TOOL_CHOICES.get(choice.mode)
    return {} if word is None else {"tool_choice": word}


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
    """`body` with the members of the JSON object `extra_json` behind its own."""
    members = extra_json.strip(" \t\r\n")[1:-1]
    return body[:-1] + b"," + members.encode() + b"}" if members.strip(" \t\r\n") else body


def _choice(place: int, choice: wire.Choice) -> chat.Choice:
    tokens = logprobs.of_answer(choice.logprobs)
    return chat.Choice(
        index=place if choice.index is None else choice.index,
        message=_answered(choice.message),
        finish_reason=answer.finish_reason(choice.finish_reason),
        finish_reason_raw=choice.finish_reason,
        logprobs=chat.Logprobs(tokens=tokens) if tokens else None,
        seed=choice.seed,
    )


def _answered(message: wire.Message) -> chat.Message:
    reasoning, reasoning_key = answer.reasoning(message)
    return chat.Message(
        role=answer.role(message.role),
        content=[chat.ContentPart(text=message.content)] if message.content else [],
        tool_calls=_called(message.tool_calls or ()),
        reasoning=reasoning,
        reasoning_key=reasoning_key,
    )


def _called(calls: Iterable[wire.ToolCall]) -> list[chat.ToolCall]:
    """By index, which is what a stream's fragments are joined on; without one, by place."""
    placed = [(place if call.index is None else call.index, call) for place, call in enumerate(calls)]
    return [_call(call) for _, call in sorted(placed, key=lambda pair: pair[0])]


def _call(call: wire.ToolCall) -> chat.ToolCall:
    function = call.function or wire.Function()
    return chat.ToolCall(
        id=call.id, function=chat.FunctionCall(name=function.name, arguments=function.arguments or "")
    )


def _echoed(entry: wire.PromptEntry) -> chat.EchoedPrompt:
    tokens = logprobs.of_answer(entry.logprobs)
    return chat.EchoedPrompt(text=entry.text, logprobs=chat.Logprobs(tokens=tokens) if tokens else None)
