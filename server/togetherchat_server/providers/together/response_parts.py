"""Translates the parts that unary responses and streams have in common.

Owns the names and fields with which Together reports them. Each function maps a part of the schema to a
part of the contract.
"""

import hashlib
import string
from collections.abc import Iterable, Mapping, Sequence
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


_ID_ALPHABET: Final = string.digits + string.ascii_letters
_ID_CHARACTERS: Final = 9


def finish_reason(raw: str, *, calls_tools: bool) -> chat.FinishReason.ValueType:
    """Return the finish reason for the provider's.

    A choice that ends well with tool calls ends because of them. Some engines send `stop` or nothing then.
    """
    if calls_tools and FINISH_REASONS.get(raw or "stop") == chat.FINISH_REASON_STOP:
        return chat.FINISH_REASON_TOOL_CALLS
    return FINISH_REASONS.get(raw, chat.FINISH_REASON_OTHER)


def tool_call_id(completion_id: str, choice_index: int, number: int) -> str:
    """Return an id for a tool call that the provider sent without one.

    Nine letters and digits are what the strictest chat templates accept (Mistral's). The id of the
    completion makes the id unique across the turns of a conversation.
    """
    name = f"{completion_id}\n{choice_index}\n{number}".encode()
    value = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())
    characters: list[str] = []
    for _ in range(_ID_CHARACTERS):
        value, digit = divmod(value, len(_ID_ALPHABET))
        characters.append(_ID_ALPHABET[digit])
    return "".join(characters)


def role(raw: str) -> chat.Role.ValueType:
    """Return the role of a completion: the assistant's unless the provider names another."""
    return ROLES.get(raw, chat.ROLE_ASSISTANT)


def text(message: schema.ResponseMessage) -> str:
    """Return the text of the content."""
    content = message.content
    if isinstance(content, list):
        return "".join(part.text for part in content if isinstance(part, schema.TextPart))
    return content or ""


def refusal(message: schema.ResponseMessage) -> str:
    """Return the refusal: the member of the message, else the parts of its content."""
    content = message.content
    if not message.refusal and isinstance(content, list):
        return "".join(part.refusal for part in content if isinstance(part, schema.RefusalPart))
    return message.refusal or ""


def tool_calls(message: schema.ResponseMessage) -> Sequence[schema.ResponseToolCall]:
    """Return the tool calls: the list, else the one call of OpenAI's format of 2023."""
    if not message.tool_calls and message.function_call is not None:
        return (schema.ResponseToolCall(function=message.function_call),)
    return message.tool_calls or ()


def reasoning(message: schema.ResponseMessage) -> tuple[str, "chat.ReasoningField.ValueType"]:
    """Return the reasoning and the field that had it. Engines that fill both fields repeat the text.

    Parts of the content count as the field `reasoning`.
    """
    if message.reasoning:
        return message.reasoning, chat.REASONING_FIELD_REASONING
    if message.reasoning_content:
        return message.reasoning_content, chat.REASONING_FIELD_REASONING_CONTENT
    if isinstance(message.content, list) and (thinking := _thinking(message.content)):
        return thinking, chat.REASONING_FIELD_REASONING
    return "", chat.REASONING_FIELD_UNSPECIFIED


def _thinking(parts: Iterable[schema.ContentPart]) -> str:
    found = [part.thinking for part in parts if isinstance(part, schema.ThinkingPart)]
    return "".join(each if isinstance(each, str) else "".join(part.text for part in each) for each in found)


def create_time(created_s: int | None) -> Timestamp | None:
    return None if created_s is None else Timestamp(seconds=created_s)


def warnings(entries: Iterable[schema.ResponseWarning | str] | None) -> list[str]:
    texts = (entry if isinstance(entry, str) else entry.message for entry in entries or ())
    return [text for text in texts if text]


def usage(
    response_usage: schema.ResponseUsage | None, choice_usage: schema.ResponseUsage | None, *, deltas: int
) -> chat.Usage:
    """Return the provider's token counts, wherever they were; without any, `deltas` as an estimate.

    Together's own engine reports them at the top level, Kimi-K3 inside the choice. Some models
    report cached and reasoning tokens flat, others in details.
    """
    for counts in (response_usage, choice_usage):
        if counts is not None and (counts.prompt_tokens is not None or counts.completion_tokens is not None):
            return _usage(counts)
    return chat.Usage(completion_tokens=deltas, total_tokens=deltas, estimated=True)


def _usage(counts: schema.ResponseUsage) -> chat.Usage:
    prompt, completion = counts.prompt_tokens or 0, counts.completion_tokens or 0
    cached, reasoned = counts.cached_tokens, counts.reasoning_tokens
    if cached is None and counts.prompt_tokens_details is not None:
        cached = counts.prompt_tokens_details.cached_tokens
    if reasoned is None and counts.completion_tokens_details is not None:
        reasoned = counts.completion_tokens_details.reasoning_tokens
    total = counts.total_tokens
    return chat.Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=min(prompt + completion, schema.INT32_MAX) if total is None else total,
        cached_tokens=cached,
        reasoning_tokens=reasoned,
        estimated=counts.prompt_tokens is None or counts.completion_tokens is None,
    )
