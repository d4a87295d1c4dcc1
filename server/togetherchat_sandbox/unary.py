"""The body of an answer that does not stream. Pure; the styles say which fields there are."""

from dataclasses import dataclass

from togetherchat_sandbox.answers import Answer, Choice
from togetherchat_sandbox.request import ChatRequest
from togetherchat_sandbox.styles import Style, UsagePlace
from togetherchat_sandbox.tokens import alternatives, log_probability, split, token_id
from togetherchat_sandbox.tool_calls import ToolCall
from togetherchat_sandbox.wire import Json, JsonObject

FINGERPRINT = "sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What every body and chunk of one answer carries. `created` is in seconds of wall clock."""

    id: str
    created: int
    model: str


def body(answer: Answer, request: ChatRequest, style: Style, label: Label) -> JsonObject:
    """The `chat.completion` object."""
    told: JsonObject = {
        "id": label.id,
        "object": "chat.completion",
        "created": label.created,
        "model": label.model,
    }
    if style.full:
        told["prompt"] = _prompt(answer, request)
    told["choices"] = [_choice(choice, request, style) for choice in answer.choices]
    if style.usage is not UsagePlace.NOWHERE:
        told["usage"] = usage(answer, style)
    told["system_fingerprint"] = FINGERPRINT
    return told


def usage(answer: Answer, style: Style) -> JsonObject:
    """The count of tokens; cached and thought ones where the engine puts them."""
    told: JsonObject = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
    if style.usage_nested:
        told["prompt_tokens_details"] = {"cached_tokens": answer.cached_tokens}
    else:
        told["cached_tokens"] = answer.cached_tokens
    if style.usage_nested or answer.reasoning_tokens:
        told["completion_tokens_details"] = {"reasoning_tokens": answer.reasoning_tokens}
    return told


def logprobs(tokens: tuple[str, ...], limit: int) -> JsonObject:
    """Together's parallel arrays, with `limit` likeliest tokens for each position."""
    told: JsonObject = {
        "tokens": list(tokens),
        "token_logprobs": [log_probability(token, place) for place, token in enumerate(tokens)],
        "token_ids": [token_id(token) for token in tokens],
    }
    if limit:
        told["top_logprobs"] = [dict(alternatives(token, place, limit)) for place, token in enumerate(tokens)]
    return told


def _prompt(answer: Answer, request: ChatRequest) -> list[Json]:
    if not request.echo:
        return []
    measured = None if request.logprobs is None else logprobs(split(answer.prompt), request.logprobs)
    return [{"text": answer.prompt, "logprobs": measured}]


def _choice(choice: Choice, request: ChatRequest, style: Style) -> JsonObject:
    message: JsonObject = {
        "role": "assistant",
        "content": None if choice.calls else "".join(choice.content),
    }
    if choice.reasoning:
        message[style.reasoning_key] = "".join(choice.reasoning)
    if style.full or choice.calls:
        message["tool_calls"] = [_call(call, index) for index, call in enumerate(choice.calls)]
    told: JsonObject = {"index": choice.index, "finish_reason": choice.finish_reason, "message": message}
    if style.full:
        told["seed"] = choice.seed
        told["logprobs"] = None if request.logprobs is None else logprobs(choice.content, request.logprobs)
    return told


def _call(call: ToolCall, index: int) -> JsonObject:
    function: JsonObject = {"name": call.name, "arguments": "".join(call.fragments)}
    return {"index": index, "id": call.id, "type": "function", "function": function}
