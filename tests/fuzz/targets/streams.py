"""Streams that look like a provider's: decoder, schema and translator together.

Each stream is read at once and in fuzzed reads. Both must have the same result, keep the stream
guarantees written at `ChatService.StreamComplete`, and return for every choice exactly the text that
was sent for it, or its beginning if the stream failed.

Input: cuts and line ends, then decisions from which the events are built (`Sender`).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fuzz.provider_events import Sender
from fuzz.tape import Tape
from support.reference_accumulator import accumulate
from support.translation import cut, pieces
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.providers.together.split_characters import whole
from togetherchat_server.providers.together.stream_reader import StreamReader

EVENT_BYTES_MAX: Final = 1 << 20
CUTS_MAX: Final = 8
MODEL: Final = "some/model"

Event = service.StreamCompleteResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of reading a stream."""

    events: list[Event]
    failure: ServiceError | None


def target(data: bytes) -> None:
    tape = Tape(data)
    positions = [tape.number(65_535) for _ in range(tape.number(CUTS_MAX))]
    sender = Sender(tape)
    stream = sender.stream()
    whole = _read([stream])
    parts = _read(cut(stream, (position % (len(stream) + 1) for position in positions)))
    assert _failure(whole) == _failure(parts)
    assert pieces(whole.events) == pieces(parts.events)
    for outcome in (whole, parts):
        _check_guarantees(outcome)
        if sender.plain:
            _check_text(outcome, sender)


def _read(reads: Iterable[bytes]) -> Outcome:
    reader = StreamReader(max_event_bytes=EVENT_BYTES_MAX, caller_brought_key=False, model="", secrets=())
    events: list[Event] = []
    try:
        for read in reads:
            if not reader.done:
                reader.feed(read)
                events += reader.pop_events(MODEL)
        reader.translator.finish(done=reader.done, attempts=1)
    except ServiceError as failure:
        return Outcome(events=[*events, *reader.pop_events(MODEL)], failure=failure)
    return Outcome(events=[*events, *reader.pop_events(MODEL)], failure=None)


def _failure(outcome: Outcome) -> tuple[Reason, str] | None:
    return None if outcome.failure is None else (outcome.failure.reason, outcome.failure.message)


def _check_guarantees(outcome: Outcome) -> None:
    events = outcome.events
    reasons = [event.WhichOneof("event") for event in events]
    deltas = [event.delta for event in events if event.HasField("delta")]
    ends = [event.choice_finished.choice_index for event in events if event.HasField("choice_finished")]
    tail = ["choice_finished"] * len(ends)
    if outcome.failure is None:
        assert ends
        assert sorted({delta.choice_index for delta in deltas}) == ends
        tail.append("completed")
    assert (["started"] if events else []) + ["delta"] * len(deltas) + tail == reasons
    _check_names_once(deltas)
    for event in events:
        assert event == Event.FromString(event.SerializeToString())


def _check_names_once(deltas: Sequence[service.Delta]) -> None:
    seen: set[tuple[object, ...]] = set()

    def once(*name: object) -> None:
        assert name not in seen
        seen.add(name)

    for delta in deltas:
        assert ((delta.choice_index, "role") not in seen) is bool(delta.role)
        assert bool(delta.reasoning) is bool(delta.reasoning_field)
        assert delta.role or delta.text or delta.reasoning or delta.tool_calls or delta.logprobs.tokens
        if delta.role:
            once(delta.choice_index, "role")
        for call in delta.tool_calls:
            for part in ("id", "name"):
                if getattr(call, part):
                    once(delta.choice_index, call.index, part)


def _check_text(outcome: Outcome, sender: Sender) -> None:
    received: dict[tuple[int, str], str] = defaultdict(str)
    for choice in accumulate(outcome.events).choices:
        received[choice.index, "content"] = "".join(part.text for part in choice.message.content)
        received[choice.index, "reasoning"] = choice.message.reasoning
    for name in received.keys() | sender.sent.keys():
        sent = whole(sender.sent[name])
        assert sent.startswith(received[name]) if outcome.failure else sent == received[name]
