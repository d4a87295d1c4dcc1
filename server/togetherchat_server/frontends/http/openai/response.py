"""Translates a completion to OpenAI's `chat.completion`, with the parts that streams share.

Pure. Members that OpenAI always sends are always present, null if there is no value; only `usage` is
absent if no token was counted. Members that OpenAI does not have are present only if there is a value,
under Together's names: reasoning, seed, an echoed prompt, warnings. The cost of a call is in its usage,
under OpenRouter's name.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.frontends.http.openai.functions import FINISH_REASON as FUNCTION_CALL
from togetherchat_server.frontends.http.openai.functions import from_tool_calls

Json = dict[str, object]

NANO_PER_USD: Final = 1e9

FINISH_REASONS: Final[Mapping[chat.FinishReason.ValueType, str]] = {
    chat.FINISH_REASON_STOP: "stop",
    chat.FINISH_REASON_LENGTH: "length",
    chat.FINISH_REASON_TOOL_CALLS: "tool_calls",
    chat.FINISH_REASON_CONTENT_FILTER: "content_filter",
}

REASONING_FIELDS: Final[Mapping[chat.ReasoningField.ValueType, str]] = {
    chat.REASONING_FIELD_REASONING: "reasoning",
    chat.REASONING_FIELD_REASONING_CONTENT: "reasoning_content",
}


def completion(response: service.CompleteResponse, *, alternatives: bool, functions: bool = False) -> bytes:
    """Return the body.

    With `alternatives`, log probabilities include the tokens that were not chosen. With `functions`, a tool
    call is a `function_call`.
    """
    body: Json = {
        "id": response.id,
        "object": "chat.completion",
        "created": response.create_time.seconds,
        "model": response.model,
        "choices": [
            _choice(choice, alternatives=alternatives, functions=functions) for choice in response.choices
        ],
    }
    if has_usage(response.usage):
        body["usage"] = usage(response.usage)
    if response.system_fingerprint:
        body["system_fingerprint"] = response.system_fingerprint
    if response.warnings:
        body["warnings"] = [{"message": warning.message} for warning in response.warnings]
    if response.echoed_prompts:
        body["prompt"] = [_echoed(prompt) for prompt in response.echoed_prompts]
    return orjson.dumps(body)


def finish_reason(reason: chat.FinishReason.ValueType, raw: str, *, functions: bool = False) -> str:
    """Return OpenAI's value, or the provider's own if there is none. Null would mean "not finished"."""
    if functions and reason == chat.FINISH_REASON_TOOL_CALLS:
        return FUNCTION_CALL
    return FINISH_REASONS.get(reason) or raw or "stop"


def reasoning_field(field: chat.ReasoningField.ValueType) -> str:
    """Return the member that has the reasoning: the one in which the provider sent it."""
    return REASONING_FIELDS.get(field, "reasoning")


def has_usage(counts: chat.Usage) -> bool:
    """Return whether any token was counted, by the provider or here. Zeros would look like its count."""
    return not counts.estimated or counts.total_tokens > 0


def usage(counts: chat.Usage) -> Json:
    """Return the tokens, and `cost` in US dollars if the price is known.

    Counts of this service's own, for a provider that sent none or not all, are marked as `estimated`.

    The cost is a number, as OpenRouter's is. Fifteen digits are exact: a million dollars to the
    billionth.
    """
    body: Json = {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.total_tokens,
    }
    if counts.HasField("cached_tokens"):
        body["prompt_tokens_details"] = {"cached_tokens": counts.cached_tokens}
    if counts.HasField("reasoning_tokens"):
        body["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning_tokens}
    if counts.estimated:
        body["estimated"] = True
    if counts.HasField("cost_nano_usd"):
        body["cost"] = counts.cost_nano_usd / NANO_PER_USD
    return body


def logprobs(tokens: Iterable[chat.TokenLogprob], *, alternatives: bool) -> Json:
    content = [
        _token(token) | {"top_logprobs": [_token(top) for top in token.top_logprobs] if alternatives else []}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def tool_call(index: int, call: chat.ToolCall) -> Json:
    """Return a tool call with its `index`. Together sends it; OpenAI does not, and its clients ignore it."""
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"index": index, "id": call.id, "type": "function", "function": function}


def _choice(choice: chat.Choice, *, alternatives: bool, functions: bool) -> Json:
    body: Json = {
        "index": choice.index,
        "message": _message(choice.message, functions=functions),
        "logprobs": None,
        "finish_reason": finish_reason(choice.finish_reason, choice.finish_reason_raw, functions=functions),
    }
    if choice.HasField("logprobs"):
        body["logprobs"] = logprobs(choice.logprobs.tokens, alternatives=alternatives)
    if choice.HasField("seed"):
        body["seed"] = choice.seed
    return body


def _message(message: chat.Message, *, functions: bool) -> Json:
    texts = [part.text for part in message.content]
    body: Json = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (message.tool_calls or message.refusal) else None,
        "refusal": message.refusal or None,
    }
    if message.reasoning:
        body[reasoning_field(message.reasoning_field)] = message.reasoning
    if message.tool_calls and functions:
        body["function_call"] = from_tool_calls(message.tool_calls)
    elif message.tool_calls:
        body["tool_calls"] = [tool_call(index, call) for index, call in enumerate(message.tool_calls)]
    return body


def _token(token: chat.TokenLogprob | chat.TopLogprob) -> Json:
    return {
        "token": token.token,
        "logprob": token.logprob if token.HasField("logprob") else None,
        "bytes": list(token.bytes) if token.HasField("bytes") else None,
    }


def _echoed(prompt: chat.EchoedPrompt) -> Json:
    body: Json = {"text": prompt.text, "logprobs": None}
    if prompt.HasField("logprobs"):
        body["logprobs"] = logprobs(prompt.logprobs.tokens, alternatives=True)
    return body
