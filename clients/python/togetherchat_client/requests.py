"""Builds the contract's request from the arguments of a call.

Owns the names of the arguments. They are the fields of `CompleteRequest` and `ListModelsRequest`, so
the comments of the protos document them. The service validates the values.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict, Unpack

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client.messages import user

Messages: TypeAlias = str | chat.Message | Sequence[str | chat.Message]
"""A conversation, oldest first. A plain string is a user message."""


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
    tools: Sequence[chat.Tool]
    tool_choice: chat.ToolChoice
    response_format: chat.ResponseFormat
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
    """
    if isinstance(model, service.CompleteRequest):
        if messages or fields:
            raise TypeError("a CompleteRequest cannot be combined with messages or fields")
        return model
    return service.CompleteRequest(model=model, messages=_to_messages(messages), **fields)


def list_request(page_token: str, **fields: Unpack[ListFields]) -> service.ListModelsRequest:
    """Build the request for the page at `page_token`."""
    return service.ListModelsRequest(page_token=page_token, **fields)


def _to_messages(messages: Messages) -> list[chat.Message]:
    if isinstance(messages, (str, chat.Message)):
        messages = [messages]
    return [user(turn) if isinstance(turn, str) else turn for turn in messages]
