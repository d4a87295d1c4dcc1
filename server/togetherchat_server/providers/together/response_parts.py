"""The parts of an answer that a whole one and a stream have in common.

Owns the words and places in which Together reports them. Each function takes what the wire
had and gives what the contract has.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.providers.together import schema

FINISH_REASONS: Final[Mapping[str, chat.FinishReason.ValueType]] = {
    "stop": chat.FINISH_REASON_STOP,
    "eos": chat.FINISH_REASON_STOP,
    "length": chat.FINISH_REASON_LENGTH,
    "tool_calls": chat.FINISH_REASON_TOOL_CALLS,
    "function_call": chat.FINISH_REASON_TOOL_CALLS,
    "content_filter": chat.FINISH_REASON_CONTENT_FILTER,
}

ROLES: Final[Mapping[str, chat.Role.ValueType]] = {
    "system": chat.ROLE_SYSTEM,
    "user": chat.ROLE_USER,
    "assistant": chat.ROLE_ASSISTANT,
    "tool": chat.ROLE_TOOL,
}


def finish_reason(raw: str) -> chat.FinishReason.ValueType:
    return FINISH_REASONS.get(raw, chat.FINISH_REASON_OTHER)


def role(raw: str) -> chat.Role.ValueType:
    """An answer is the assistant's, whether or not it says so."""
    return ROLES.get(raw, chat.ROLE_ASSISTANT)


def reasoning(message: schema.Message) -> tuple[str, str]:
    """The thinking and the spelling that carried it. Engines that send both send it twice."""
    if message.reasoning:
        return message.reasoning, "reasoning"
    if message.reasoning_content:
        return message.reasoning_content, "reasoning_content"
    return "", ""


def create_time(created_s: int | None) -> Timestamp | None:
    return None if created_s is None else Timestamp(seconds=created_s)


def remarks(warnings: Iterable[schema.Remark | str] | None) -> list[str]:
    texts = (warning if isinstance(warning, str) else warning.message for warning in warnings or ())
    return [text for text in texts if text]


def usage(answer_usage: schema.Usage | None, choice_usage: schema.Usage | None, *, pieces: int) -> chat.Usage:
    """The provider's count, wherever it stood; without one, `pieces` as an estimate.

    Together's own engine puts it at the top level, Kimi-K3 inside the choice. What came from
    the cache and what was thinking is counted flat by some models and in details by others.
    """
    for counts in (answer_usage, choice_usage):
        if counts is not None and (counts.prompt_tokens is not None or counts.completion_tokens is not None):
            return _counted(counts)
    return chat.Usage(completion_tokens=pieces, total_tokens=pieces, estimated=True)


def _counted(counts: schema.Usage) -> chat.Usage:
    prompt, completion = counts.prompt_tokens or 0, counts.completion_tokens or 0
    cached, thought = counts.cached_tokens, counts.reasoning_tokens
    if cached is None and counts.prompt_tokens_details is not None:
        cached = counts.prompt_tokens_details.cached_tokens
    if thought is None and counts.completion_tokens_details is not None:
        thought = counts.completion_tokens_details.reasoning_tokens
    total = counts.total_tokens
    return chat.Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=min(prompt + completion, schema.INT32_MAX) if total is None else total,
        cached_tokens=cached,
        reasoning_tokens=thought,
        estimated=counts.prompt_tokens is None or counts.completion_tokens is None,
    )
