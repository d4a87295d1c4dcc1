"""Encodes a completion as the chunks of a stream, in order, each with its position in time. Pure, lazy.

The chunks of a choice: an opening chunk (some dialects); one chunk per token of reasoning, content
or tool arguments; before a call's arguments, a chunk that names the call; a finish chunk. The
chunks of several choices alternate. A chunk with usage ends the stream in some dialects.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

from togetherchat_sandbox.dialects import Dialect, ToolCallStyle, UsagePlacement
from togetherchat_sandbox.encoding import JsonObject
from togetherchat_sandbox.plan import CompletionPlan, PlannedChoice
from togetherchat_sandbox.request import ChatRequest
from togetherchat_sandbox.tokens import END_OF_TURN_ID, log_probability, token_id, top_log_probabilities
from togetherchat_sandbox.tool_calls import PlannedToolCall
from togetherchat_sandbox.unary_body import FINGERPRINT, Envelope, call_label, finish_reason, usage


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChunk:
    """One event, due together with the token at `position`."""

    body: JsonObject
    position: int
    tokens: int = 0
    after_last_token: bool = False


def stream_chunks(
    plan: CompletionPlan, request: ChatRequest, dialect: Dialect, envelope: Envelope
) -> Iterator[PlannedChunk]:
    """Yield the `chat.completion.chunk` objects of `plan`."""
    placement = _usage_placement(dialect, request)
    longest = max(plan.choices, key=lambda choice: (choice.tokens, choice.index))
    if dialect.late_head:
        yield PlannedChunk(body={**_enveloped([], envelope), "id": "", "created": 0}, position=0)
    streams = [_ChoiceStream(choice, request, dialect).chunks() for choice in plan.choices]
    for simultaneous in zip_longest(*streams):
        for index, chunk in enumerate(simultaneous):
            if chunk is None:
                continue
            final = chunk.after_last_token and index == longest.index
            yield _complete(chunk, envelope, dialect, usage(plan, dialect) if final else None, placement)
    if placement is UsagePlacement.TRAILING_CHUNK:
        trailing = _enveloped([], envelope)
        trailing["usage"] = usage(plan, dialect)
        yield PlannedChunk(body=trailing, position=longest.tokens, after_last_token=True)


def _usage_placement(dialect: Dialect, request: ChatRequest) -> UsagePlacement:
    match dialect.usage:
        case UsagePlacement.IN_CHOICE if request.include_usage:
            return UsagePlacement.TRAILING_CHUNK
        case UsagePlacement.IF_REQUESTED:
            return UsagePlacement.TRAILING_CHUNK if request.include_usage else UsagePlacement.ABSENT
        case placement:
            return placement


def _enveloped(choices: list[JsonObject], envelope: Envelope) -> JsonObject:
    return {
        "id": envelope.id,
        "object": "chat.completion.chunk",
        "created": envelope.created,
        "choices": [*choices],
        "model": envelope.model,
        "system_fingerprint": FINGERPRINT,
    }


def _complete(
    chunk: PlannedChunk,
    envelope: Envelope,
    dialect: Dialect,
    counts: JsonObject | None,
    placement: UsagePlacement,
) -> PlannedChunk:
    choice = chunk.body
    if counts and placement is UsagePlacement.IN_CHOICE:
        choice["usage"] = counts
    body = _enveloped([choice], envelope)
    if dialect.together_fields and placement is not UsagePlacement.ABSENT:
        body["usage"] = counts if placement is UsagePlacement.FINISH_CHUNK else None
    return replace(chunk, body=body)


class _ChoiceStream:
    """Yields the chunks of one choice; their bodies are entries of `choices`, without the envelope."""

    def __init__(self, choice: PlannedChoice, request: ChatRequest, dialect: Dialect) -> None:
        self._choice = choice
        self._dialect = dialect
        self._logprobs = request.logprobs if dialect.together_fields else None
        self._position = 0

    def chunks(self) -> Iterator[PlannedChunk]:
        dialect, choice = self._dialect, self._choice
        key = dialect.reasoning_key
        if dialect.opening_chunk:
            opening: JsonObject = {"role": "assistant", "content": ""}
            yield self._chunk({**opening, key: ""} if choice.reasoning else opening)
        for token in choice.reasoning:
            yield self._token({"content": "", key: token} if dialect.together_fields else {key: token}, token)
        for position, token in enumerate(choice.content):
            yield self._token({"content": token}, token, text=token, content_position=position)
        yield from self._calls()
        yield self._finish()

    def _calls(self) -> Iterator[PlannedChunk]:
        for index, call in enumerate(self._choice.calls):
            label = call_label(call, index, self._dialect)
            if self._dialect.tool_calls is ToolCallStyle.WHOLE_WITHOUT_ID:
                yield self._whole_call(call, label)
                continue
            function: JsonObject = {"name": call.name, "arguments": ""}
            naming: JsonObject = {**label, "type": "function", "function": function}
            yield self._chunk({"content": "", "tool_calls": [naming]})
            for number, fragment in enumerate(call.fragments, start=1):
                later = 0 if self._dialect.tool_calls is ToolCallStyle.SHARED_INDEX else index
                arguments: JsonObject = {"index": later, "function": {"arguments": fragment}}
                chunk = self._token({"content": "", "tool_calls": [arguments]}, fragment)
                if self._dialect.flickering_finish_reason and number == len(call.fragments):
                    chunk.body["finish_reason"] = "tool_calls"
                yield chunk

    def _whole_call(self, call: PlannedToolCall, label: JsonObject) -> PlannedChunk:
        function: JsonObject = {"name": call.name, "arguments": "".join(call.fragments)}
        whole: JsonObject = {**label, "type": "function", "function": function}
        self._position += len(call.fragments)
        return self._chunk({"content": "", "tool_calls": [whole]}, tokens=len(call.fragments))

    def _token(
        self, delta: JsonObject, token: str, *, text: str = "", content_position: int | None = None
    ) -> PlannedChunk:
        if self._dialect.token_ids:
            delta["token_id"] = token_id(token)
        chunk = self._chunk(delta, text=text, tokens=1)
        if self._logprobs is not None and content_position is not None:
            chunk.body["logprobs"] = log_probability(token, content_position)
            chunk.body["top_logprobs"] = dict(top_log_probabilities(token, content_position, self._logprobs))
        self._position += 1
        return chunk

    def _chunk(self, delta: JsonObject, *, text: str = "", tokens: int = 0) -> PlannedChunk:
        body: JsonObject = {"index": self._choice.index, "finish_reason": None}
        if self._dialect.together_fields:
            reasoning = {self._dialect.reasoning_key: None} if self._choice.reasoning else {}
            delta = {"token_id": None, "role": "assistant", **reasoning, **delta}
            body |= {"text": text, "logprobs": None, "seed": None}
        body["delta"] = delta
        return PlannedChunk(body=body, position=self._position, tokens=tokens)

    def _finish(self) -> PlannedChunk:
        end: JsonObject = {"token_id": END_OF_TURN_ID} if self._dialect.token_ids else {}
        chunk = self._chunk({"content": "", **end} if self._dialect.together_fields else {})
        chunk.body["finish_reason"] = finish_reason(self._choice, self._dialect)
        if self._dialect.together_fields:
            chunk.body["seed"] = self._choice.seed
        return replace(chunk, after_last_token=True)
