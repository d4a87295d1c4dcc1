"""Encodes a completion as the body of a unary response. Pure; the dialect decides the fields."""

from dataclasses import dataclass

from togetherchat_sandbox.dialects import Dialect, ToolCallStyle, UsagePlacement
from togetherchat_sandbox.encoding import Json, JsonObject
from togetherchat_sandbox.plan import CompletionPlan, PlannedChoice
from togetherchat_sandbox.request import ChatRequest
from togetherchat_sandbox.tokens import log_probability, token_id, tokenize, top_log_probabilities
from togetherchat_sandbox.tool_calls import PlannedToolCall

FINGERPRINT = "sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The fields that the body, or every chunk, of a completion repeats. `created` is in Unix seconds."""

    id: str
    created: int
    model: str


def unary_body(
    plan: CompletionPlan, request: ChatRequest, dialect: Dialect, envelope: Envelope
) -> JsonObject:
    """Return the `chat.completion` object."""
    body: JsonObject = {
        "id": envelope.id,
        "object": "chat.completion",
        "created": envelope.created,
        "model": envelope.model,
    }
    if dialect.together_fields:
        body["prompt"] = _prompt(plan, request)
    body["choices"] = [_choice(choice, request, dialect) for choice in plan.choices]
    if dialect.usage is not UsagePlacement.ABSENT:
        body["usage"] = usage(plan, dialect)
    body["system_fingerprint"] = FINGERPRINT
    return body


def usage(plan: CompletionPlan, dialect: Dialect) -> JsonObject:
    """Return the token counts, with cached and reasoning tokens where the dialect has them."""
    counts: JsonObject = {
        "prompt_tokens": plan.prompt_tokens,
        "completion_tokens": plan.completion_tokens,
        "total_tokens": plan.prompt_tokens + plan.completion_tokens,
    }
    if dialect.nested_usage_details:
        counts["prompt_tokens_details"] = {"cached_tokens": plan.cached_tokens}
    else:
        counts["cached_tokens"] = plan.cached_tokens
    if dialect.nested_usage_details or plan.reasoning_tokens:
        counts["completion_tokens_details"] = {"reasoning_tokens": plan.reasoning_tokens}
    return counts


def finish_reason(choice: PlannedChoice, dialect: Dialect) -> str:
    """Return the finish reason as the dialect has it."""
    return "stop" if choice.calls and dialect.stop_after_calls else choice.finish_reason


def call_label(call: PlannedToolCall, index: int, dialect: Dialect) -> JsonObject:
    """Return the index and the id of a call, or of its first fragment."""
    match dialect.tool_calls:
        case ToolCallStyle.NUMBERED:
            return {"index": index, "id": call.id}
        case ToolCallStyle.SHARED_INDEX:
            return {"index": 0, "id": call.id}
        case ToolCallStyle.SHIFTED_INDEX:
            return {"index": index + 1, "id": call.id}
        case ToolCallStyle.WHOLE_WITHOUT_ID:
            return {}


def logprobs(tokens: tuple[str, ...], limit: int) -> JsonObject:
    """Return Together's parallel arrays, with the `limit` most likely tokens of each position."""
    arrays: JsonObject = {
        "tokens": list(tokens),
        "token_logprobs": [log_probability(token, position) for position, token in enumerate(tokens)],
        "token_ids": [token_id(token) for token in tokens],
    }
    if limit:
        arrays["top_logprobs"] = [
            dict(top_log_probabilities(token, position, limit)) for position, token in enumerate(tokens)
        ]
    return arrays


def _prompt(plan: CompletionPlan, request: ChatRequest) -> list[Json]:
    if not request.echo:
        return []
    probabilities = None if request.logprobs is None else logprobs(tokenize(plan.prompt), request.logprobs)
    return [{"text": plan.prompt, "logprobs": probabilities}]


def _choice(choice: PlannedChoice, request: ChatRequest, dialect: Dialect) -> JsonObject:
    message: JsonObject = {
        "role": "assistant",
        "content": None if choice.calls else "".join(choice.content),
    }
    if choice.reasoning:
        message[dialect.reasoning_key] = "".join(choice.reasoning)
    if dialect.together_fields or choice.calls:
        message["tool_calls"] = [_call(call, index, dialect) for index, call in enumerate(choice.calls)]
    body: JsonObject = {
        "index": choice.index,
        "finish_reason": finish_reason(choice, dialect),
        "message": message,
    }
    if dialect.together_fields:
        body["seed"] = choice.seed
        body["logprobs"] = None if request.logprobs is None else logprobs(choice.content, request.logprobs)
    return body


def _call(call: PlannedToolCall, index: int, dialect: Dialect) -> JsonObject:
    return {
        **call_label(call, index, dialect),
        "type": "function",
        "function": {"name": call.name, "arguments": "".join(call.fragments)},
    }
