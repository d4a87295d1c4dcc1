"""Translates the bytes of a stream to our events as the provider does, without waiting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.providers.together import schema
from togetherchat_server.providers.together.stream import ChatStreamTranslator
from togetherchat_server.upstream.sse import SseDecoder

EVENT_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a stream: its events, and the failure that ended it, if any."""

    events: list[service.StreamCompleteResponse]
    failure: ServiceError | None


def translate(reads: Iterable[bytes]) -> Outcome:
    """Translate a stream read by read, as one attempt."""
    decoder = SseDecoder(max_event_bytes=EVENT_BYTES_MAX)
    translator = ChatStreamTranslator()
    events: list[service.StreamCompleteResponse] = []
    done = False
    try:
        for read in reads:
            for event in decoder.feed(read):
                done = done or event.data == b"[DONE]"
                if not done:
                    translator.feed(schema.parse_chunk(event.data))
            events.extend(translator.pop_events())
        translator.finish(done=done, attempts=1)
    except ServiceError as failure:
        return Outcome(events=events + translator.pop_events(), failure=failure)
    return Outcome(events=events + translator.pop_events(), failure=None)


def cut(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """`data` cut before each of the positions."""
    edges = [0, *sorted(positions), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


Part = tuple[object, ...]

_GROWING = frozenset({"reasoning", "text", "refusal", "arguments"})


def pieces(events: Sequence[service.StreamCompleteResponse]) -> list[Part]:
    """The events in a form that does not depend on how deltas were merged: adjacent parts are joined.

    The log probabilities of a choice are one list, because they may come beside any part.
    """
    joined: list[list[object]] = []
    logprobs: dict[int, list[bytes]] = {}
    for event in events:
        kind = event.WhichOneof("event")
        if kind != "delta":
            joined.append([kind, event.SerializeToString(deterministic=True)])
            continue
        delta = event.delta
        tokens = (token.SerializeToString(deterministic=True) for token in delta.logprobs.tokens)
        logprobs.setdefault(delta.choice_index, []).extend(tokens)
        for *head, text in _parts(delta):
            if head[0] in _GROWING and joined and joined[-1][:-1] == head:
                joined[-1][-1] += text
            else:
                joined.append([*head, text])
    return [tuple(part) for part in joined] + [(index, *tokens) for index, tokens in sorted(logprobs.items())]


def _parts(delta: service.Delta) -> Iterable[tuple[object, ...]]:
    index = delta.choice_index
    if delta.role:
        yield ("role", index, delta.role)
    if delta.reasoning:
        yield ("reasoning", index, delta.reasoning_field, delta.reasoning)
    if delta.text:
        yield ("text", index, delta.text)
    if delta.refusal:
        yield ("refusal", index, delta.refusal)
    for fragment in delta.tool_calls:
        if fragment.id or fragment.name:
            yield ("call", index, fragment.index, fragment.id, fragment.name)
        if fragment.arguments:
            yield ("arguments", index, fragment.index, fragment.arguments)
