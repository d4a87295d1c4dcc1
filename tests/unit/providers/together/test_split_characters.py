"""Characters that a provider cut between two texts: none is ever broken."""

import json
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import openai
from support.reference_accumulator import accumulate
from support.translation import Outcome, translate
from togetherchat_server.providers.together import schema
from togetherchat_server.providers.together.response import from_schema
from togetherchat_server.providers.together.split_characters import CharacterJoiner, whole

GRIN = "\U0001f600"
HIGH, LOW = "\ud83d", "\ude00"
FIELDS = ("content", "reasoning", "reasoning_content", "refusal", "arguments")


def escaped(text: str) -> bytes:
    """A JSON text of ASCII, in which a half of a pair is an escape."""
    return json.dumps(text).encode()


def raw(data: bytes) -> bytes:
    """A JSON text of these bytes as they are, whether they are UTF-8 or not."""
    marks = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"))
    for mark, escape in marks:
        data = data.replace(mark, escape)
    return b'"' + data + b'"'


def event(field: str, text: bytes, **members: object) -> bytes:
    """One event whose delta has a JSON text in a field; further members are of the choice."""
    value: object = "TEXT"
    delta = (
        {"tool_calls": [{"index": 0, "function": {"arguments": value}}]}
        if field == "arguments"
        else {field: value}
    )
    choice = {"index": 0, "delta": delta, **members}
    return b"data: %s\n\n" % openai.dumps({**openai.HEAD, "choices": [choice]}).replace(b'"TEXT"', text)


def streamed(field: str, texts: Iterable[bytes]) -> Outcome:
    """The events of a stream whose chunks have these texts in a field, one read for each."""
    end = openai.event(openai.chunk(finish_reason="stop")) + openai.event(openai.DONE)
    outcome = translate([*(event(field, text) for text in texts), end])
    assert outcome.failure is None
    return outcome


def text_of(field: str, outcome: Outcome) -> str:
    """The field of the accumulated message."""
    (choice,) = accumulate(outcome.events).choices
    message = choice.message
    match field:
        case "content":
            return "".join(part.text for part in message.content)
        case "refusal":
            return message.refusal
        case "arguments":
            return "".join(call.function.arguments for call in message.tool_calls)
        case _:
            return message.reasoning


@pytest.mark.parametrize("field", FIELDS)
def test_a_pair_split_over_two_deltas_is_one_character(field: str):
    """elizaOS#30904, rakazo#416: `Hi \\ud83d`, then `\\ude00!`."""
    outcome = streamed(field, [escaped(f"Hi {HIGH}"), escaped(f"{LOW}!")])

    assert f"Hi {GRIN}!" == text_of(field, outcome)


@pytest.mark.parametrize("field", FIELDS)
def test_bytes_split_over_deltas_are_one_character(field: str):
    """An engine that writes the bytes of each token sends UTF-8 that continues in the next text."""
    data = f"é{GRIN}!".encode()
    outcome = streamed(field, [raw(data[position : position + 1]) for position in range(len(data))])

    assert f"é{GRIN}!" == text_of(field, outcome)


@pytest.mark.parametrize("field", FIELDS)
def test_a_half_at_the_end_is_replaced(field: str):
    """Nothing completes it, so U+FFFD stands for it, as in a unary response."""
    outcome = streamed(field, [escaped("Hi"), escaped(HIGH)])

    assert "Hi\ufffd" == text_of(field, outcome)


def test_a_content_in_parts_keeps_halves():
    """Engines that send a list of parts in place of a text cut characters, too."""
    parts = [[{"type": "text", "text": "Hi "}, {"text": HIGH}], [{"type": "text", "text": f"{LOW}!"}]]
    outcome = streamed("content", [openai.dumps(part) for part in parts])

    assert f"Hi {GRIN}!" == text_of("content", outcome)


def test_only_the_half_is_held_back():
    """What comes before the half is sent at once, and nothing is sent for a half alone."""
    reads = [event("content", escaped(text)) for text in (f"Hi {HIGH}", f"{LOW}{HIGH}", LOW)]
    deltas: list[list[str]] = []
    for count in range(1, len(reads) + 1):
        events = translate(reads[:count]).events
        deltas.append([one.delta.text for one in events if one.HasField("delta")])

    assert [["Hi "], ["Hi ", GRIN], ["Hi ", GRIN, GRIN]] == deltas


def test_a_half_waits_while_other_fields_and_choices_continue():
    """Each field of each choice, and each tool call, has its own half."""
    second = openai.event(openai.chunk(f"b{HIGH}", index=1))
    calls = [
        {"index": index, "function": {"name": "f", "arguments": text}}
        for index, text in ((0, HIGH), (1, HIGH), (0, LOW), (1, "x"))
    ]
    reads = [
        event("content", escaped(f"a{HIGH}")),
        event("reasoning", escaped(f"r{HIGH}")),
        second,
        *(openai.event(openai.chunk(delta={"tool_calls": [call]})) for call in calls),
        openai.event(openai.chunk(LOW, index=1)),
        event("reasoning", escaped(LOW)),
        event("content", escaped(LOW)),
        openai.event(openai.DONE),
    ]
    first, other = accumulate(translate(reads).events).choices

    assert (f"a{GRIN}", f"r{GRIN}", f"b{GRIN}") == (
        first.message.content[0].text,
        first.message.reasoning,
        other.message.content[0].text,
    )
    assert [GRIN, "\ufffdx"] == [call.function.arguments for call in first.message.tool_calls]


def test_a_failed_stream_has_no_part_of_a_character():
    """The half that waits is not sent when the stream fails."""
    outcome = translate([event("content", escaped(f"Hi{HIGH}"))])

    assert outcome.failure is not None
    assert ["Hi"] == [one.delta.text for one in outcome.events if one.HasField("delta")]


LOGPROBS: dict[str, Callable[[list[str]], object]] = {
    "arrays": lambda tokens: {"tokens": tokens, "token_logprobs": [-0.5] * len(tokens)},
    "content": lambda tokens: {"content": [{"token": token, "logprob": -0.5} for token in tokens]},
}


@pytest.mark.parametrize("shape", LOGPROBS)
@pytest.mark.parametrize("where", ["choices", "prompt"])
def test_the_tokens_of_a_unary_response(where: str, shape: str):
    """The second token of a split character has the whole character."""
    logprobs = LOGPROBS[shape](["Hi ", HIGH, f"{LOW}!", HIGH])
    body = openai.completion("Hi", prompt=[{"text": "Hi", "logprobs": logprobs}])
    body["choices"][0]["logprobs"] = logprobs

    response = from_schema(schema.parse_completion(openai.dumps(body)))

    found = response.choices[0].logprobs if where == "choices" else response.echoed_prompts[0].logprobs
    assert ["Hi ", "", f"{GRIN}!", ""] == [token.token for token in found.tokens]


@pytest.mark.parametrize("shape", [*LOGPROBS, "numbers"])
def test_the_tokens_of_a_stream(shape: str):
    """They are those of the same unary response."""
    tokens = ["Hi ", HIGH, f"{LOW}!"]
    reads = [
        event("content", escaped(token), logprobs=LOGPROBS[shape]([token]) if shape in LOGPROBS else -0.5)
        for token in tokens
    ]
    outcome = translate([*reads, openai.event(openai.chunk(finish_reason="stop")), openai.event(openai.DONE)])

    (choice,) = accumulate(outcome.events).choices
    assert ["Hi ", "", f"{GRIN}!"] == [token.token for token in choice.logprobs.tokens]


def test_alternatives_and_other_texts_are_repaired_where_they_are():
    """Nothing continues an alternative or a name."""
    logprobs = {"content": [{"token": "a", "top_logprobs": [{"token": HIGH, "logprob": -1}]}]}
    call = {"index": 0, "id": f"i{HIGH}", "function": {"name": f"n{HIGH}", "arguments": "{}"}}
    read = event("content", escaped("a"), logprobs=logprobs) + openai.event(
        openai.chunk(delta={"tool_calls": [call]})
    )
    (choice,) = accumulate(translate([read, openai.event(openai.DONE)]).events).choices

    assert ["\ufffd"] == [top.token for top in choice.logprobs.tokens[0].top_logprobs]
    assert ("i\ufffd", "n\ufffd") == (
        choice.message.tool_calls[0].id,
        choice.message.tool_calls[0].function.name,
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["plain"], "plain"),
        ([HIGH, "x"], "\ufffdx"),
        ([HIGH, HIGH, LOW], f"\ufffd{GRIN}"),
        ([LOW, HIGH], "\ufffd\ufffd"),
        ([HIGH, "", LOW], GRIN),
        (["\udcf0\udc9f", "\udc98", "\udc80"], GRIN),
        (["\udcf0\udc9f", "x"], "\ufffdx"),
        (["\udcf0\udc9f", LOW], "\ufffd\ufffd"),
        (["\udcff", "x"], "\ufffdx"),
        (["\udc80"], "\ufffd"),
        ([HIGH, "\udc80"], "\U0001f480"),
        (["a\udce9b"], "a\ufffdb"),
    ],
)
def test_texts_are_joined(texts: list[str], expected: str):
    """The joined texts can be encoded, and have U+FFFD for what is part of no character."""
    joiner = CharacterJoiner()
    joined = "".join([*(joiner.feed(text) for text in texts), joiner.flush()])

    assert expected == joined
    assert joined.encode().decode() == joined
    assert "" == joiner.flush()


TEXT = st.text('aé\u2028\U0001f600\U0001f480\U0010ffff\\"\n', max_size=12)


@settings(max_examples=60, deadline=None)
@given(TEXT, st.lists(st.integers(0, 40), max_size=6), st.sampled_from(FIELDS))
def test_any_text_survives_any_cuts_between_utf16_units(text: str, cuts: list[int], field: str):
    """However a text is cut, also inside of pairs, the escapes make up the same text."""
    units = text.encode("utf-16-le")
    edges = [0, *sorted(min(cut * 2, len(units)) for cut in cuts), len(units)]
    pieces = [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(edges)]

    assert text == text_of(field, streamed(field, [escaped(piece) for piece in pieces]))


@settings(max_examples=60, deadline=None)
@given(TEXT, st.lists(st.integers(0, 40), max_size=6), st.sampled_from(FIELDS))
def test_any_text_survives_any_cuts_between_bytes(text: str, cuts: list[int], field: str):
    """However the UTF-8 of a text is cut, also inside of characters, the bytes make up the same text."""
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]

    assert text == text_of(field, streamed(field, [raw(piece) for piece in pieces]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(min_codepoint=0xD7F0, max_codepoint=0xE00F), max_size=4), max_size=4))
def test_cut_texts_are_repaired_as_the_whole_text_is(texts: list[str]):
    """A stream of anything has the text that a unary response has."""
    joiner = CharacterJoiner()
    joined = "".join([*(joiner.feed(text) for text in texts), joiner.flush()])

    assert whole("".join(texts)) == joined
    assert joined.encode().decode() == joined
