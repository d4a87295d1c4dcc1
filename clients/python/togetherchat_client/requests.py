"""Builds the contract's request from the arguments of a call.

Owns the names of the arguments. They are the fields of `CompleteRequest` and `ListModelsRequest`, so
the comments of the protos document them. Messages, tools, the tool choice and the response format may
be dictionaries of OpenAI's API: `openai_shapes.py`. The service validates the values.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict, Unpack, cast

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client.openai_shapes import (
    to_message,
    to_response_format,
    to_tool,
    to_tool_choice,
    valid_text,
)

Turn: TypeAlias = str | chat.Message | Mapping[str, object]
Messages: TypeAlias = Turn | Sequence[Turn]
"""A conversation, oldest first. A plain string is a user message, and a dictionary one of OpenAI's API."""


class CompleteFields(TypedDict, total=False):
    """All fields of CompleteRequest except `model` and `messages`."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    stop: Sequence[str]
    n: int
    seed: int
    logprobs: int
    echo: bool
    logit_bias: Mapping[str, float]
    tools: Sequence[chat.Tool | Mapping[str, object]]
    tool_choice: chat.ToolChoice | str | Mapping[str, object]
    response_format: chat.ResponseFormat | Mapping[str, object]
    reasoning_effort: str
    reasoning_enabled: bool
    chat_template_kwargs_json: str
    safety_model: str
    context_length_exceeded_behavior: "chat.ContextLengthExceededBehavior.ValueType"
    compliance: str
    prompt_cache_key: str
    fallback_models: Sequence[str]
    extra_body_json: str
    parallel_tool_calls: bool
    user: str


class ListFields(TypedDict, total=False):
    """All fields of ListModelsRequest except `page_token`."""

    page_size: int
    type: str
    organization: str
    availability: "models.Availability.ValueType"
    state: "models.ModelState.ValueType"
    quantization: str
    min_context_length: int
    max_input_usd_per_million_tokens: float
    query: str
    order_by: str


def complete_request(
    model: str | service.CompleteRequest, messages: Messages, **fields: Unpack[CompleteFields]
) -> service.CompleteRequest:
    """Build a CompleteRequest, or return the given one unchanged.

    Raises:
        TypeError: a CompleteRequest was given together with messages or fields.
        ValueError: a dictionary has a wrong shape, or a text is not valid Unicode. The message names
            the place, such as `messages[1].content[0].type`.
    """
    if isinstance(model, service.CompleteRequest):
        if messages or fields:
            raise TypeError("a CompleteRequest cannot be combined with messages or fields")
        return model
    built: dict[str, object] = dict(fields)
    if "tools" in fields:
        built["tools"] = [to_tool(tool, f"tools[{index}]") for index, tool in enumerate(fields["tools"])]
    if "tool_choice" in fields:
        built["tool_choice"] = to_tool_choice(fields["tool_choice"])
    if "response_format" in fields:
        built["response_format"] = to_response_format(fields["response_format"])
    for name, value in {"model": model, **built}.items():
        _validate_texts(name, value)
    return service.CompleteRequest(
        model=model,
        messages=_to_messages(messages),
        **built,  # pyright: ignore[reportArgumentType]  fields of CompleteFields, translated above
    )


def list_request(page_token: str, **fields: Unpack[ListFields]) -> service.ListModelsRequest:
    """Build the request for the page at `page_token`."""
    return service.ListModelsRequest(page_token=page_token, **fields)


def _validate_texts(name: str, value: object) -> None:
    """Raise ValueError for a text that protobuf would reject without the name of its field."""
    if isinstance(value, str):
        valid_text(value, name)
    elif isinstance(value, list | tuple):
        for index, each in enumerate(cast("Sequence[object]", value)):
            _validate_texts(f"{name}[{index}]", each)


def _to_messages(messages: Messages) -> list[chat.Message]:
    if isinstance(messages, str | chat.Message | Mapping):
        messages = [messages]
    return [_to_message(turn, f"messages[{index}]") for index, turn in enumerate(messages)]


def _to_message(turn: Turn, place: str) -> chat.Message:
    if isinstance(turn, chat.Message):
        return turn
    if isinstance(turn, Mapping):
        return to_message(turn, place)
    if isinstance(turn, str):  # pyright: ignore[reportUnnecessaryIsInstance]  callers without types
        return to_message({"role": "user", "content": turn}, place)
    raise ValueError(f"{place}: must be text, a dictionary or a Message, not {type(turn).__name__}")
