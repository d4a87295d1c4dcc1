"""From a stream's bytes to our events in the way the provider does it, without any waiting."""

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
    """What a stream became: its events, and the failure that ended it, if one did."""

    events: list[service.StreamCompleteResponse]
    failure: ServiceError | None


def translate(reads: Iterable[bytes]) -> Outcome:
    """Every read's events, taken read by read; a stream of one attempt."""
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


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut before each of the places."""
    edges = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


Piece = tuple[object, ...]

_GROWING = frozenset({"reasoning", "text", "arguments"})


def pieces(events: Sequence[service.StreamCompleteResponse]) -> list[Piece]:
    """The events without the accident of how deltas were merged: neighbours of one reason are joined.

    The log probabilities of a choice are one list, because they may come beside any piece.
    """
    joined: list[list[object]] = []
    logprobs: dict[int, list[bytes]] = {}
    for event in events:
        reason = event.WhichOneof("event")
        if reason != "delta":
            joined.append([reason, event.SerializeToString(deterministic=True)])
            continue
        delta = event.delta
        tokens = (token.SerializeToString(deterministic=True) for token in delta.logprobs.tokens)
        logprobs.setdefault(delta.choice_index, []).extend(tokens)
        for *head, text in _exploded(delta):
            if head[0] in _GROWING and joined and joined[-1][:-1] == head:
                joined[-1][-1] += text
            else:
                joined.append([*head, text])
    return [tuple(piece) for piece in joined] + [
        (index, *tokens) for index, tokens in sorted(logprobs.items())
    ]


def _exploded(delta: service.Delta) -> Iterable[tuple[object, ...]]:
    index = delta.choice_index
    if delta.role:
        yield ("role", index, delta.role)
    if delta.reasoning:
        yield ("reasoning", index, delta.reasoning_key, delta.reasoning)
    if delta.text:
        yield ("text", index, delta.text)
    for fragment in delta.tool_calls:
        if fragment.id or fragment.name:
            yield ("call", index, fragment.index, fragment.id, fragment.name)
        if fragment.arguments:
            yield ("arguments", index, fragment.index, fragment.arguments)
