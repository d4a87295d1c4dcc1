"""The chunks of an answer that streams, in order, each with its place in time. Pure and lazy.

The order of a choice: an opening chunk (some engines), a chunk for each token of thinking, of
content or of a call's arguments, a chunk that names each call before its arguments, a finish
chunk. Several choices take turns. Then usage, where the engine gives it a chunk of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from togetherchat_sandbox.answers import Answer, Choice
from togetherchat_sandbox.request import ChatRequest
from togetherchat_sandbox.styles import Style, UsagePlace
from togetherchat_sandbox.tokens import END_OF_TURN_ID, alternatives, log_probability, token_id
from togetherchat_sandbox.unary import FINGERPRINT, Label, usage
from togetherchat_sandbox.wire import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One event: due when the token at `position` is; `closing` comes after the last token."""

    body: JsonObject
    position: int
    tokens: int = 0
    closing: bool = False


def chunks(answer: Answer, request: ChatRequest, style: Style, label: Label) -> Iterator[Chunk]:
    """The `chat.completion.chunk` objects of `answer`."""
    place = _usage_place(style, request)
    last = max(answer.choices, key=lambda choice: (choice.tokens, choice.index))
    tellers = [_Teller(choice, request, style).chunks() for choice in answer.choices]
    for told in zip_longest(*tellers):
        for index, chunk in enumerate(told):
            if chunk is None:
                continue
            final = chunk.closing and index == last.index
            yield _complete(chunk, label, style, usage(answer, style) if final else None, place)
    if place is UsagePlace.TRAILING_CHUNK:
        trailing = _envelope(label, [])
        trailing["usage"] = usage(answer, style)
        yield Chunk(body=trailing, position=last.tokens, closing=True)


def _usage_place(style: Style, request: ChatRequest) -> UsagePlace:
    match style.usage:
        case UsagePlace.IN_CHOICE if request.include_usage:
            return UsagePlace.TRAILING_CHUNK
        case UsagePlace.IF_ASKED:
            return UsagePlace.TRAILING_CHUNK if request.include_usage else UsagePlace.NOWHERE
        case place:
            return place


def _envelope(label: Label, choices: list[JsonObject]) -> JsonObject:
    return {
        "id": label.id,
        "object": "chat.completion.chunk",
        "created": label.created,
        "choices": [*choices],
        "model": label.model,
        "system_fingerprint": FINGERPRINT,
    }


def _complete(chunk: Chunk, label: Label, style: Style, used: JsonObject | None, place: UsagePlace) -> Chunk:
    choice = chunk.body
    if used and place is UsagePlace.IN_CHOICE:
        choice["usage"] = used
    told = _envelope(label, [choice])
    if style.full and place is not UsagePlace.NOWHERE:
        told["usage"] = used if place is UsagePlace.FINISH_CHUNK else None
    return Chunk(body=told, position=chunk.position, tokens=chunk.tokens, closing=chunk.closing)


class _Teller:
    """Tells one choice; the bodies of its chunks are entries of `choices`, without the envelope."""

    def __init__(self, choice: Choice, request: ChatRequest, style: Style) -> None:
        self._choice = choice
        self._style = style
        self._logprobs = request.logprobs if style.full else None
        self._position = 0

    def chunks(self) -> Iterator[Chunk]:
        style, choice = self._style, self._choice
        key = style.reasoning_key
        if style.opening:
            opening: JsonObject = {"role": "assistant", "content": ""}
            yield self._chunk({**opening, key: ""} if choice.reasoning else opening)
        for token in choice.reasoning:
            yield self._token({"content": "", key: token} if style.full else {key: token}, token)
        for position, token in enumerate(choice.content):
            yield self._token({"content": token}, token, text=token, measured_at=position)
        yield from self._calls()
        yield self._finish()

    def _calls(self) -> Iterator[Chunk]:
        for index, call in enumerate(self._choice.calls):
            function: JsonObject = {"name": call.name, "arguments": ""}
            naming: JsonObject = {"index": index, "id": call.id, "type": "function", "function": function}
            yield self._chunk({"content": "", "tool_calls": [naming]})
            for place, fragment in enumerate(call.fragments, start=1):
                rest: JsonObject = {"index": index, "function": {"arguments": fragment}}
                chunk = self._token({"content": "", "tool_calls": [rest]}, fragment)
                if self._style.flickers and place == len(call.fragments):
                    chunk.body["finish_reason"] = "tool_calls"
                yield chunk

    def _token(
        self, delta: JsonObject, token: str, *, text: str = "", measured_at: int | None = None
    ) -> Chunk:
        if self._style.token_ids:
            delta["token_id"] = token_id(token)
        chunk = self._chunk(delta, text=text, tokens=1)
        if self._logprobs is not None and measured_at is not None:
            chunk.body["logprobs"] = log_probability(token, measured_at)
            chunk.body["top_logprobs"] = dict(alternatives(token, measured_at, self._logprobs))
        self._position += 1
        return chunk

    def _chunk(self, delta: JsonObject, *, text: str = "", tokens: int = 0) -> Chunk:
        told: JsonObject = {"index": self._choice.index, "finish_reason": None}
        if self._style.full:
            thinking = {self._style.reasoning_key: None} if self._choice.reasoning else {}
            delta = {"token_id": None, "role": "assistant", **thinking, **delta}
            told |= {"text": text, "logprobs": None, "seed": None}
        told["delta"] = delta
        return Chunk(body=told, position=self._position, tokens=tokens)

    def _finish(self) -> Chunk:
        end: JsonObject = {"token_id": END_OF_TURN_ID} if self._style.token_ids else {}
        chunk = self._chunk({"content": "", **end} if self._style.full else {})
        chunk.body["finish_reason"] = self._choice.finish_reason
        if self._style.full:
            chunk.body["seed"] = self._choice.seed
        return Chunk(body=chunk.body, position=chunk.position, closing=True)
