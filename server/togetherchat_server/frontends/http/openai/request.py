"""Translates a request of OpenAI's chat API to a `CompleteRequest`.

Decides for every member: translated, ignored by name, rejected by name, or passed through. Pure. The
result is validated in `calls`, as for every frontend.

- Translated: every member for which the contract has a field.
- Ignored, and named in `x-togetherchat-ignored`: members that Together documents as ignored, and unknown
  members of messages, parts and tools, which have no field to travel in.
- Rejected: members without which the response would not be the requested one.
- Passed through: unknown members of the request itself, and a negative seed, which has no field. Where
  the caller's tenant has limits, only those that the operator allowed are; the others are ignored.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.frontends.http.openai import functions, schema
from togetherchat_server.frontends.http.openai.messages import to_message
from togetherchat_server.frontends.http.openai.unsupported import (
    IGNORED,
    REJECTED,
    IgnoredMembers,
    invalid,
    reject_members,
)

SCALARS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "echo",
    "parallel_tool_calls",
    "reasoning_effort",
    "safety_model",
    "compliance",
    "prompt_cache_key",
    "user",
)
"""Members that have the same name and meaning in both APIs."""

TOOL_CHOICES: Final[Mapping[str, chat.ToolChoiceMode.ValueType]] = {
    "auto": chat.TOOL_CHOICE_MODE_AUTO,
    "none": chat.TOOL_CHOICE_MODE_NONE,
    "required": chat.TOOL_CHOICE_MODE_REQUIRED,
}

CONTEXT_LENGTH_EXCEEDED_BEHAVIORS: Final[Mapping[str, chat.ContextLengthExceededBehavior.ValueType]] = {
    "error": chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR,
    "truncate": chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_TRUNCATE,
}

SCHEMA_NAME: Final = "answer"
"""For Together's format of 2024, whose schemas have no name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedRequest:
    """A translated request, and the options of its response."""

    request: service.CompleteRequest
    stream: bool
    include_usage: bool | None
    """Where a stream has its usage: True in a last chunk without choices, False nowhere, None in the
    chunk that finishes the last choice."""
    alternatives: bool
    """Whether log probabilities include the tokens that were not chosen."""
    functions: bool
    """Whether the response has `function_call` in place of `tool_calls`."""
    ignored: tuple[str, ...]
    """The names of the ignored members."""


def read(data: bytes, *, allowed_members: Collection[str] | None = None) -> TranslatedRequest:
    """Parse and translate a body. Raises `ServiceError` INVALID_REQUEST."""
    return translate(schema.parse_request(data), allowed_members=allowed_members)


def translate(
    body: schema.RequestBody, *, allowed_members: Collection[str] | None = None
) -> TranslatedRequest:
    """Translate a parsed body.

    Args:
        body: the parsed body.
        allowed_members: the unknown members that are passed through; None: all of them.

    Raises:
        ServiceError: INVALID_REQUEST.
    """
    ignored = IgnoredMembers()
    request = service.CompleteRequest(
        model=body.model, messages=[to_message(message, ignored) for message in body.messages]
    )
    for name in SCALARS:
        value = getattr(body, name)
        if value is not None:
            setattr(request, name, value)
    _add_limits(request, body)
    _add_tools(request, body, ignored)
    if body.response_format is not None:
        _add_response_format(request.response_format, body.response_format, ignored)
    _add_reasoning(request, body, ignored)
    _add_extra(request, body, ignored, allowed_members)
    if body.stream_options is not None:
        ignored.add_extra("stream_options", body.stream_options)
    return TranslatedRequest(
        request=request,
        stream=bool(body.stream),
        include_usage=None if body.stream_options is None else body.stream_options.include_usage,
        alternatives=bool(body.top_logprobs) or not isinstance(body.logprobs, bool),
        functions=bool(body.functions),
        ignored=ignored.names(),
    )


def _add_limits(request: service.CompleteRequest, body: schema.RequestBody) -> None:
    limits = {body.max_tokens, body.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise invalid("max_completion_tokens", "must be the same as max_tokens, which has the same meaning")
    for limit in limits:
        if limit is not None:
            request.max_tokens = limit
    if body.context_length_exceeded_behavior is not None:
        behavior = CONTEXT_LENGTH_EXCEEDED_BEHAVIORS[body.context_length_exceeded_behavior]
        request.context_length_exceeded_behavior = behavior
    if body.stop is not None:
        request.stop.extend([body.stop] if isinstance(body.stop, str) else body.stop)
    if body.logit_bias:
        biases = {token: bias for token, bias in body.logit_bias.items() if bias is not None}
        request.logit_bias.update(biases)
    if body.fallback_models:
        request.fallback_models.extend(body.fallback_models)
    _add_logprobs(request, body)


def _add_logprobs(request: service.CompleteRequest, body: schema.RequestBody) -> None:
    """Translate OpenAI's switch and number to Together's number alone, 0 to 20.

    Together does not document whether 0 returns log probabilities without alternatives. 1 does return
    them, and the alternative is left out of the response.
    """
    logprobs, alternatives = body.logprobs, body.top_logprobs
    if alternatives and not logprobs:
        raise invalid("top_logprobs", "requires logprobs to be true")
    if logprobs is True:
        request.logprobs = max(1, alternatives or 0)
    elif logprobs is not None and logprobs is not False:
        request.logprobs = logprobs if alternatives is None else alternatives


def _add_tools(request: service.CompleteRequest, body: schema.RequestBody, ignored: IgnoredMembers) -> None:
    of_2023 = functions.as_tools(body)
    for tool in of_2023 or body.tools or ():
        request.tools.append(_tool(tool, ignored))
    if of_2023 and not request.HasField("parallel_tool_calls"):
        request.parallel_tool_calls = False  # the response has room for one call
    choice = functions.as_tool_choice(body) if of_2023 else body.tool_choice
    if isinstance(choice, str):
        request.tool_choice.mode = TOOL_CHOICES[choice]
    elif choice is not None:
        request.tool_choice.function_name = choice.function.name


def _tool(tool: schema.RequestTool, ignored: IgnoredMembers) -> chat.Tool:
    function = tool.function
    ignored.add_extra("tools[]", tool)
    ignored.add_extra("tools[].function", function)
    return chat.Tool(
        function=chat.FunctionTool(
            name=function.name,
            description=function.description or "",
            parameters_json=_json(function.parameters),
            strict=function.strict,
        )
    )


def _add_response_format(
    response_format: chat.ResponseFormat, source: schema.RequestResponseFormat, ignored: IgnoredMembers
) -> None:
    ignored.add_extra("response_format", source)
    kind = source.type
    if source.schema_ is not None and source.json_schema is None and kind in {"json_object", "json_schema"}:
        response_format.json_schema.name = SCHEMA_NAME
        response_format.json_schema.schema_json = _json(source.schema_)
        return
    match kind:
        case "text":
            response_format.text.SetInParent()
        case "json_object":
            response_format.json_object.SetInParent()
        case "json_schema":
            _add_json_schema(response_format.json_schema, source.json_schema, ignored)
        case "regex":
            if not source.pattern:
                raise invalid("response_format.pattern", "is required with regex")
            response_format.regex = source.pattern
        case _:
            assert_never(kind)


def _add_json_schema(
    json_schema: chat.JsonSchemaFormat, source: schema.RequestJsonSchema | None, ignored: IgnoredMembers
) -> None:
    if source is None:
        raise invalid("response_format.json_schema", "is required with json_schema")
    ignored.add_extra("response_format.json_schema", source)
    json_schema.name = source.name
    json_schema.description = source.description or ""
    json_schema.schema_json = _json(source.schema_)
    if source.strict is not None:
        json_schema.strict = source.strict


def _add_reasoning(
    request: service.CompleteRequest, body: schema.RequestBody, ignored: IgnoredMembers
) -> None:
    if body.chat_template_kwargs is not None:
        request.chat_template_kwargs_json = _json(body.chat_template_kwargs)
    if body.reasoning is None:
        return
    ignored.add_extra("reasoning", body.reasoning)
    if body.reasoning.enabled is not None:
        request.reasoning_enabled = body.reasoning.enabled
    if body.reasoning.effort and not request.reasoning_effort:
        request.reasoning_effort = body.reasoning.effort


def _add_extra(
    request: service.CompleteRequest,
    body: schema.RequestBody,
    ignored: IgnoredMembers,
    allowed: Collection[str] | None,
) -> None:
    """Ignore, reject or pass through the members that have no field, and set or pass through the seed."""
    seed: dict[str, object] = {}
    if body.seed is not None:
        if body.seed >= 0:
            request.seed = body.seed
        else:
            seed["seed"] = body.seed
    passed_through = seed | _passed_through(body, ignored, allowed)
    if passed_through:
        request.extra_body_json = _json(passed_through)


def _passed_through(
    body: schema.RequestBody, ignored: IgnoredMembers, allowed: Collection[str] | None
) -> dict[str, object]:
    if not body.model_extra:
        return {}
    extra = body.extra()
    reject_members(extra, REJECTED, "")
    modalities = extra.get("modalities")
    if modalities not in (None, ["text"]):
        raise invalid("modalities", "is not supported: this service only returns text")
    known = IGNORED | REJECTED.keys() | {"modalities"}
    passed = {name for name in extra if name not in known and (allowed is None or name in allowed)}
    for name in extra:
        if name in IGNORED or not (name in known or name in passed):
            ignored.add(name)
    return {name: value for name, value in extra.items() if name in passed}


def _json(value: Mapping[str, object] | None) -> str:
    """Return JSON text again, in the caller's order."""
    return "" if value is None else schema.to_json(value)
