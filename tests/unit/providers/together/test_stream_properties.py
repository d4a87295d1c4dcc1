"""Stream guarantees for random completions: the events accumulate to the unary response, in valid order.

A random completion is rendered twice, as one body and as chunks, with every variation that was
observed at Together; the chunks are cut at random.
"""

import json
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from support.reference_accumulator import accumulate
from support.translation import cut, translate
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.providers.together import schema
from togetherchat_server.providers.together.response import from_schema

Json = dict[str, object]

TEXT = st.text('ab\u2028\u0085\f\n\r"\\{é\ufffd\x00\U0001f600', min_size=1, max_size=6)
FINISH = st.sampled_from(
    ["stop", "eos", "length", "tool_calls", "function_call", "content_filter", "abort", "new"]
)
SEED = st.none() | st.sampled_from([0, 7, 2**63, 17598938344439790000])
HEAD = {"id": "chatcmpl-1", "created": 1790000000, "model": "some/model"}
USAGES = [
    {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cached_tokens": 2},
    {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One fragment of a choice: `kind` is reasoning, text or the index of a tool call."""

    kind: str | int
    text: str
    logprob: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedChoice:
    """One choice, as the model generated it."""

    pieces: list[Fragment]
    reasoning_key: str
    finish_reason: str
    seed: int | None
    calls: list[int] = field(default_factory=list)


def in_order_of_opening(kinds: list[str | int]) -> list[str | int]:
    """The kinds, with tool calls numbered as they open: no engine opens the second call first."""
    numbers = {
        kind: number for number, kind in enumerate(dict.fromkeys(k for k in kinds if isinstance(k, int)))
    }
    return [numbers.get(kind, kind) if isinstance(kind, int) else kind for kind in kinds]


@st.composite
def generated_choices(draw: st.DrawFn) -> GeneratedChoice:
    calls = draw(st.integers(0, 2))
    kinds = st.sampled_from(["reasoning", "text", "text", *range(calls)])
    with_logprobs = draw(st.booleans())
    logprobs = st.sampled_from([-0.5, -1.25, 0.0]) if with_logprobs else st.none()
    pieces = [
        Fragment(
            kind=kind, text=draw(TEXT), logprob=draw(logprobs) if kind in ("text", "reasoning") else None
        )
        for kind in in_order_of_opening(draw(st.lists(kinds, max_size=6)))
    ]
    return GeneratedChoice(
        pieces=pieces,
        reasoning_key=draw(st.sampled_from(["reasoning", "reasoning_content"])),
        finish_reason=draw(FINISH),
        seed=draw(SEED),
        calls=sorted({piece.kind for piece in pieces if isinstance(piece.kind, int)}),
    )


def joined(generated: GeneratedChoice, kind: str | int) -> str:
    return "".join(piece.text for piece in generated.pieces if piece.kind == kind)


def unary(choices: list[GeneratedChoice], usage: Json) -> bytes:
    """The choices as one unary body."""
    rendered: list[Json] = []
    for index, generated in enumerate(choices):
        calls = [
            {
                "index": call,
                "id": f"call_{call}",
                "function": {"name": f"f{call}", "arguments": joined(generated, call)},
            }
            for call in generated.calls
        ]
        scored = [piece for piece in generated.pieces if piece.logprob is not None]
        tokens, token_logprobs = [piece.text for piece in scored], [piece.logprob for piece in scored]
        message = {"role": "assistant", "content": joined(generated, "text") or None, "tool_calls": calls}
        message |= {generated.reasoning_key: joined(generated, "reasoning")}
        rendered.append(
            {
                "index": index,
                "message": message,
                "finish_reason": generated.finish_reason,
                "seed": generated.seed,
                "logprobs": {"tokens": tokens, "token_logprobs": token_logprobs},
            }
        )
    return json.dumps({**HEAD, "choices": rendered, "usage": usage}).encode()


def delta_of(draw: st.DrawFn, generated: GeneratedChoice, piece: Fragment, named: set[int]) -> Json:
    """One fragment, with or without keys that add nothing."""
    delta: Json = draw(st.sampled_from([{}, {"role": "assistant"}, {"role": "assistant", "token_id": None}]))
    if piece.kind == "reasoning":
        return {
            **draw(st.sampled_from([{}, {"content": ""}, {"content": None}])),
            **delta,
            generated.reasoning_key: piece.text,
        }
    if piece.kind == "text":
        return {
            **draw(st.sampled_from([{}, {"tool_calls": None}, {generated.reasoning_key: None}])),
            **delta,
            "content": piece.text,
        }
    first = piece.kind not in named
    named.add(piece.kind)
    repeated = {"id": f"call_{piece.kind}", "type": "function"}
    naming = repeated if first else draw(st.sampled_from([{}, {"id": ""}, repeated]))
    name = {"name": f"f{piece.kind}"} if first or draw(st.booleans()) else {}
    call = {"index": piece.kind, **naming, "function": {**name, "arguments": piece.text}}
    return {**delta, "content": "", "tool_calls": [call]}


def fragments(draw: st.DrawFn, index: int, generated: GeneratedChoice) -> list[Json]:
    """The fragments of one choice in the chunks, in order."""
    named: set[int] = set()
    shares: list[Json] = []
    for piece in generated.pieces:
        flicker = draw(st.sampled_from([None, None, "", "tool_calls"]))
        share = {"index": index, "delta": delta_of(draw, generated, piece, named), "finish_reason": flicker}
        shares.append({**share, "logprobs": piece.logprob, "text": "copy", "seed": None})
    last = {
        "index": index,
        "delta": draw(st.sampled_from([{}, {"content": ""}, None])),
        "seed": generated.seed,
    }
    shares.append({**last, "finish_reason": generated.finish_reason})
    if draw(st.booleans()):
        shares.append({"index": index, "delta": {}, "finish_reason": None})
    return shares


def with_usage(draw: st.DrawFn, chunks: list[Json], usage: Json) -> list[Json]:
    """Usage in one of the positions where it was observed."""
    match draw(st.sampled_from(["top", "trailing", "choice"])):
        case "top":
            return [*chunks[:-1], {**chunks[-1], "usage": usage}]
        case "trailing":
            return [*chunks, {**HEAD, "choices": [], "usage": usage}]
        case _:
            (*before, last) = chunks
            (choice, *others) = last["choices"]
            return [*before, {**last, "choices": [{**choice, "usage": usage}, *others]}]


def rendered(draw: st.DrawFn, choices: list[GeneratedChoice], usage: Json) -> bytes:
    """The completion as a stream: choices interleaved at random, with noise in between."""
    queues = [fragments(draw, index, generated) for index, generated in enumerate(choices)]
    chunks: list[Json] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        chunks.append({**HEAD, "choices": [queue.pop(0)], "usage": None})
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    noise = st.sampled_from(
        ["", "", ": keepalive" + end * 2, f"data: {json.dumps({**HEAD, 'choices': []})}" + end * 2]
    )
    ascii_only = draw(st.booleans())
    stream = draw(noise)
    for piece in with_usage(draw, chunks, usage):
        stream += f"data: {json.dumps(piece, ensure_ascii=ascii_only)}{end}{end}{draw(noise)}"
    return (stream + f"data: [DONE]{end}{end}").encode()


@st.composite
def renderings(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A unary body, and the reads of an equivalent stream."""
    choices = draw(st.lists(generated_choices(), min_size=1, max_size=3))
    usage = draw(st.sampled_from(USAGES))
    stream = rendered(draw, choices, usage)
    positions = draw(st.lists(st.integers(0, len(stream)), max_size=8))
    return unary(choices, usage), cut(stream, positions)


def assert_order(events: list[service.StreamCompleteResponse]) -> None:
    """The order is started, deltas, choices finished by index, completed; roles and names come once."""
    kinds = [event.WhichOneof("event") for event in events]
    deltas = [event.delta for event in events if event.HasField("delta")]
    ends = [event.choice_finished.choice_index for event in events if event.HasField("choice_finished")]
    assert ["started", *["delta"] * len(deltas), *["choice_finished"] * len(ends), "completed"] == kinds
    assert sorted({delta.choice_index for delta in deltas}) == ends

    seen: set[tuple[int, ...]] = set()
    for delta in deltas:
        assert ((delta.choice_index,) not in seen) is bool(delta.role)
        seen.add((delta.choice_index,))
        assert bool(delta.reasoning) is bool(delta.reasoning_field)
        for call in delta.tool_calls:
            assert ((delta.choice_index, call.index) not in seen) is bool(call.id) is bool(call.name)
            seen.add((delta.choice_index, call.index))
        assert delta.role or delta.text or delta.reasoning or delta.tool_calls or delta.logprobs.tokens


@settings(max_examples=50, deadline=None)
@given(renderings())
def test_a_stream_accumulates_to_the_unary_response(rendering: tuple[bytes, list[bytes]]):
    """Guarantees 1, 2, 4 and 6 hold for any completion, any order of chunks and any reads."""
    body, reads = rendering
    expected = from_schema(schema.parse_completion(body))
    expected.attempts = 1

    outcome = translate(reads)

    assert outcome.failure is None
    assert_order(outcome.events)
    assert expected == accumulate(outcome.events)


@settings(max_examples=25, deadline=None)
@given(renderings(), st.data())
def test_a_truncated_stream_is_never_complete(rendering: tuple[bytes, list[bytes]], draw: st.DataObject):
    """Guarantee 2: a truncated stream fails, unless every choice had its finish reason."""
    _, reads = rendering
    stream = b"".join(reads)
    part = stream[: draw.draw(st.integers(0, len(stream) - 1))]

    outcome = translate([part])

    completed = [event for event in outcome.events if event.HasField("completed")]
    assert (outcome.failure is None) is bool(completed)
    if completed:
        assert all(
            event.choice_finished.finish_reason_raw
            for event in outcome.events
            if event.HasField("choice_finished")
        )
