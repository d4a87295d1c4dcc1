"""Which fragments of a stream make up one tool call, in the shapes of real engines."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import openai
from support.reference_accumulator import accumulate
from support.translation import translate
from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.providers.together import schema, stream_tool_calls
from togetherchat_server.providers.together.response import from_schema
from togetherchat_server.providers.together.response_parts import tool_call_id

Json = dict[str, object]
HANOI, PARIS = '{"city":"Hanoi"}', '{"city":"Paris"}'


def fragment(
    arguments: str | None = None,
    *,
    index: int | None = None,
    call_id: str | None = None,
    name: str | None = None,
) -> Json:
    """A fragment with the members that are given."""
    function = {"name": name, "arguments": arguments}
    members = {"index": index, "id": call_id}
    return {
        **{key: value for key, value in members.items() if value is not None},
        "function": {key: value for key, value in function.items() if value is not None},
    }


def calls_of(*deltas: Sequence[Json], finish_reason: str = "tool_calls") -> list[tuple[str, str, str]]:
    """The id, name and arguments of the calls in a stream with a chunk for each list of fragments."""
    chunks = [openai.chunk(delta={"tool_calls": list(fragments)}) for fragments in deltas]
    events = [*chunks, openai.chunk(finish_reason=finish_reason), openai.DONE]
    outcome = translate([openai.event(event) for event in events])
    assert outcome.failure is None
    (choice,) = accumulate(outcome.events).choices
    calls = choice.message.tool_calls
    assert_dense([one for event in outcome.events for one in event.delta.tool_calls])
    return [(call.id, call.function.name, call.function.arguments) for call in calls]


def assert_dense(fragments: Sequence) -> None:
    """Calls are numbered from 0 in the order in which they open, and each has its id in its first delta."""
    opened: set[int] = set()
    for one in fragments:
        assert (one.index not in opened) is bool(one.id)
        if one.id:
            assert len(opened) == one.index
            opened.add(one.index)


def made(number: int) -> str:
    """The id of a call without one in the streams of `openai`."""
    return tool_call_id(str(openai.HEAD["id"]), 0, number)


def test_another_id_and_a_name_open_another_call():
    """sglang PR#38198, dynamo PR#4723, litellm#16188: parallel calls share index 0."""
    assert [("call_a", "get_weather", HANOI), ("call_b", "get_weather", PARIS)] == calls_of(
        [fragment(HANOI, index=0, call_id="call_a", name="get_weather")],
        [fragment(PARIS, index=0, call_id="call_b", name="get_weather")],
    )


def test_fragments_after_a_shared_index_belong_to_the_last_call():
    """Arguments without id and name continue the call that opened last with their index."""
    assert [("a", "f", HANOI), ("b", "g", PARIS)] == calls_of(
        [fragment("", index=0, call_id="a", name="f")],
        [fragment(HANOI[:5], index=0)],
        [fragment(HANOI[5:], index=0)],
        [fragment("", index=0, call_id="b", name="g")],
        [fragment(PARIS[:5], index=0)],
        [fragment(PARIS[5:], index=0)],
    )


def test_an_id_returns_to_its_call_under_a_shared_index():
    """A known id identifies its call, even if another one has opened with the same index since."""
    assert [("a", "f", HANOI), ("b", "g", PARIS)] == calls_of(
        [fragment("", index=0, call_id="a", name="f")],
        [fragment(PARIS, index=0, call_id="b", name="g")],
        [fragment(HANOI, index=0, call_id="a")],
    )


@pytest.mark.parametrize("call_id", ["a", "another", None, ""])
def test_another_id_without_a_name_stays_one_call(call_id: str | None):
    """The same id repeated, another one and none continue the call."""
    assert [("a", "f", HANOI)] == calls_of(
        [fragment(HANOI[:5], index=0, call_id="a", name="f")],
        [fragment(HANOI[5:], index=0, call_id=call_id)],
    )


@pytest.mark.parametrize("index", [0, None])
def test_a_repeated_id_and_name_stay_one_call(index: int | None):
    """Engines that repeat both in each fragment mean one call."""
    assert [("a", "f", HANOI)] == calls_of(
        [fragment(HANOI[:5], index=index, call_id="a", name="f")],
        [fragment(HANOI[5:], index=index, call_id="a", name="f")],
    )


@pytest.mark.parametrize("name", [None, "f"])
@pytest.mark.parametrize("call_id", [None, "a"])
def test_a_call_that_opens_with_another_index_than_its_rest(call_id: str | None, name: str | None):
    """sglang#6310: the first fragment has index 1 and the rest index 0."""
    name = name if call_id else None
    assert [("a", "f", HANOI)] == calls_of(
        [fragment("", index=1, call_id="a", name="f")],
        [fragment(HANOI[:5], index=0, call_id=call_id, name=name)],
        [fragment(HANOI[5:], index=0, call_id=call_id, name=name)],
    )


@pytest.mark.parametrize("second", [1, 2])
def test_the_difference_of_the_indexes_holds_for_later_calls(second: int):
    """Further calls open with the same index again, or with the next one."""
    assert [("a", "f", HANOI), ("b", "g", PARIS)] == calls_of(
        [fragment("", index=1, call_id="a", name="f")],
        [fragment(HANOI, index=0)],
        [fragment("", index=second, call_id="b", name="g")],
        [fragment(PARIS[:5], index=second - 1)],
        [fragment(PARIS[5:], index=second - 1)],
    )


def test_whole_calls_without_ids_and_indexes():
    """pi#4854, opencode PR#47954, aionrs PR#99: a call without id gets one, and other names are other calls."""
    assert [(made(0), "f", HANOI), (made(1), "g", "{}")] == calls_of(
        [fragment(HANOI, name="f")], [fragment("{}", name="g")]
    )


@pytest.mark.parametrize("index", [0, None])
def test_arguments_after_complete_ones_are_another_call(index: int | None):
    """The same function is called twice without ids, in chunks of their own."""
    assert [(made(0), "f", HANOI), (made(1), "f", PARIS)] == calls_of(
        [fragment(HANOI, index=index, name="f")], [fragment(PARIS, index=index, name="f")]
    )


@pytest.mark.parametrize("index", [0, None])
def test_a_repeated_name_does_not_cut_arguments(index: int | None):
    """Braces in a text of the arguments are not the end of a call."""
    arguments = json.dumps({"code": "if (a) {}{ return }", "n": [{}, {}]})
    cut = arguments.index("{ return")
    assert [(made(0), "f", arguments)] == calls_of(
        [fragment(arguments[:cut], index=index, name="f")], [fragment(arguments[cut:], index=index, name="f")]
    )


def test_the_end_of_long_arguments_decides_without_parsing(monkeypatch: pytest.MonkeyPatch):
    """Beyond the bound, an object that begins after a closing brace is another call's."""
    monkeypatch.setattr(stream_tool_calls, "PARSED_CHARACTERS_MAX", 4)
    assert [(made(0), "f", HANOI), (made(1), "f", PARIS)] == calls_of(
        [fragment(HANOI, name="f")], [fragment(PARIS, name="f")]
    )


def test_several_calls_in_one_chunk_without_ids():
    """Each entry of a chunk's list is a call, after whole calls and before fragments by position."""
    assert [(made(0), "f", HANOI), (made(1), "f", PARIS), (made(2), "g", "{}")] == calls_of(
        [fragment(HANOI, name="f")],
        [fragment(PARIS[:5], name="f"), fragment("{", name="g")],
        [fragment(PARIS[5:]), fragment("}")],
    )


def test_calls_with_the_same_id_and_their_own_indexes():
    """Engines whose id is the function's name: the index distinguishes the calls."""
    assert [("f", "f", HANOI), ("f", "f", PARIS)] == calls_of(
        [fragment(HANOI, index=0, call_id="f", name="f")],
        [fragment(PARIS, index=1, call_id="f", name="f")],
    )


@pytest.mark.parametrize("index", [0, None])
def test_an_id_that_comes_late_does_not_replace_the_one_sent(index: int | None):
    """The first delta has the id; a client would take a second one for the id."""
    assert [(made(0), "f", HANOI)] == calls_of(
        [fragment("", index=index, name="f")],
        [fragment(HANOI[:5], index=index, call_id="late")],
        [fragment(HANOI[5:], index=index, call_id="late")],
    )


def test_an_index_that_comes_late():
    """A call without an index is continued with one."""
    assert [("a", "f", HANOI), ("b", "g", PARIS)] == calls_of(
        [fragment("", call_id="a", name="f")],
        [fragment(HANOI[:5], index=0)],
        [fragment("", index=1, call_id="b", name="g")],
        [fragment(HANOI[5:], index=0)],
        [fragment(PARIS, index=1)],
    )


def test_indexes_are_numbered_anew():
    """Clients that keep calls in an array by index get no holes."""
    assert [("a", "f", HANOI), ("b", "g", PARIS)] == calls_of(
        [fragment(HANOI[:5], index=3, call_id="a", name="f")],
        [fragment(PARIS, index=7, call_id="b", name="g")],
        [fragment(HANOI[5:], index=3)],
    )


def test_made_ids_are_nine_letters_and_digits():
    """Mistral's templates demand that form. The id differs by completion, choice and number."""
    ids = [
        tool_call_id(completion, choice, number)
        for completion in ("r", "s", "r\n1", "")
        for choice in range(12)
        for number in range(12)
    ]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch("[0-9A-Za-z]{9}", one) for one in ids)
    assert ids == [
        tool_call_id(completion, choice, number)
        for completion in ("r", "s", "r\n1", "")
        for choice in range(12)
        for number in range(12)
    ]


def test_a_unary_response_gets_the_same_ids():
    """Every entry is a call, whether it shares its index with others or has none."""
    calls = [fragment(HANOI, index=0, name="f"), fragment(PARIS, index=0, name="f"), fragment("{}", name="g")]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = {**openai.HEAD, "choices": [openai.choice(message, finish_reason="tool_calls")]}

    (choice,) = from_schema(schema.parse_completion(openai.dumps(body))).choices

    assert [(made(0), "f", HANOI), (made(1), "f", PARIS), (made(2), "g", "{}")] == [
        (call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls
    ]


def test_the_call_has_the_id_where_the_completion_has_none():
    """Without the provider's id, the id of our call makes the ids of tool calls unique."""
    body = {"choices": [openai.choice({"tool_calls": [fragment("{}", name="f")]})]}

    completion = from_schema(schema.parse_completion(openai.dumps(body)), call_id="our-call")

    (call,) = completion.choices[0].message.tool_calls
    assert ("our-call", tool_call_id("our-call", 0, 0)) == (completion.id, call.id)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("stop", chat.FINISH_REASON_TOOL_CALLS),
        ("eos", chat.FINISH_REASON_TOOL_CALLS),
        ("", chat.FINISH_REASON_TOOL_CALLS),
        ("length", chat.FINISH_REASON_LENGTH),
        ("content_filter", chat.FINISH_REASON_CONTENT_FILTER),
        ("abort", chat.FINISH_REASON_OTHER),
    ],
)
def test_the_finish_reason_of_a_choice_with_tool_calls(raw: str, expected: int):
    """`stop` and nothing mean tool calls there, in a stream and in a unary response; the raw word is kept."""
    call = openai.tool_call("f")
    events = [openai.chunk(delta={"tool_calls": [call]}), openai.chunk(finish_reason=raw), openai.DONE]
    streamed = accumulate(translate([openai.event(event) for event in events]).events)
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {**openai.HEAD, "choices": [openai.choice(message, finish_reason=raw)]}
    unary = from_schema(schema.parse_completion(openai.dumps(body)))

    assert [(expected, raw)] * 2 == [
        (response.choices[0].finish_reason, response.choices[0].finish_reason_raw)
        for response in (streamed, unary)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How an engine renders a call: the index of its first fragment and of the rest, and what it repeats."""

    first_index: object
    index: object
    ids: bool = True
    repeats_id: bool = False
    repeats_name: bool = False
    whole: bool = False

    def render(self, number: int, name: str, pieces: Sequence[str]) -> list[Json]:
        call_id = f"call_{number}"
        pieces = ["".join(pieces)] if self.whole else ["", *pieces]
        return [
            fragment(
                piece,
                index=self._index(self.first_index if position == 0 else self.index, number),
                call_id=call_id if self.ids and (position == 0 or self.repeats_id) else None,
                name=name if position == 0 or self.repeats_name else None,
            )
            for position, piece in enumerate(pieces)
        ]

    def _index(self, kind: object, number: int) -> int | None:
        match kind:
            case "number":
                return number
            case "number + 1":
                return number + 1
            case int():
                return kind
            case _:
                return None


SHAPES = {
    "OpenAI": Shape(first_index="number", index="number"),
    "ids repeated": Shape(first_index="number", index="number", repeats_id=True),
    "ids and names repeated": Shape(first_index="number", index="number", repeats_id=True, repeats_name=True),
    "index 0 for all": Shape(first_index=0, index=0),
    "index 0 for all, ids repeated": Shape(first_index=0, index=0, repeats_id=True, repeats_name=True),
    "index 0 for all, whole calls": Shape(first_index=0, index=0, whole=True),
    "index 0 for all, whole calls without ids": Shape(first_index=0, index=0, whole=True, ids=False),
    "first index one higher": Shape(first_index="number + 1", index="number"),
    "first index 1": Shape(first_index=1, index=0),
    "first index one higher, ids repeated": Shape(first_index="number + 1", index="number", repeats_id=True),
    "no index": Shape(first_index=None, index=None),
    "no index, ids repeated": Shape(first_index=None, index=None, repeats_id=True, repeats_name=True),
    "no index, whole calls": Shape(first_index=None, index=None, whole=True),
    "no index, no ids, whole calls": Shape(first_index=None, index=None, whole=True, ids=False),
    "no index at first": Shape(first_index=None, index="number"),
    "index at first": Shape(first_index="number", index=None),
    "no ids": Shape(first_index="number", index="number", ids=False),
    "no ids, names repeated": Shape(first_index="number", index="number", ids=False, repeats_name=True),
}


@st.composite
def arguments_in_pieces(draw: st.DrawFn) -> list[str]:
    """The arguments of a call, a JSON object, cut at random places."""
    value = st.text('ab{}[]"\\:,é\U0001f600', max_size=8) | st.integers() | st.just({}) | st.just([{}])
    text = json.dumps(
        draw(st.dictionaries(st.text('k{}"', max_size=3), value, min_size=1, max_size=3)),
        ensure_ascii=draw(st.booleans()),
    )
    cuts = draw(st.lists(st.integers(0, len(text)), max_size=6))
    return [text[start:end] for start, end in pairwise([0, *sorted(cuts), len(text)])]


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=40, deadline=None)
@given(calls=st.lists(st.tuples(st.sampled_from("fg"), arguments_in_pieces()), min_size=1, max_size=4))
def test_every_shape_has_the_calls_of_the_model(shape: str, calls: list[tuple[str, list[str]]]):
    """However an engine renders the calls, and wherever it cuts their arguments, the calls are these."""
    rendered = [
        one
        for number, (name, pieces) in enumerate(calls)
        for one in SHAPES[shape].render(number, name, pieces)
    ]
    ids = [f"call_{number}" if SHAPES[shape].ids else made(number) for number in range(len(calls))]

    assert [
        (call_id, name, "".join(pieces)) for call_id, (name, pieces) in zip(ids, calls, strict=True)
    ] == calls_of(*([one] for one in rendered))
