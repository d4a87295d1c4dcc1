"""A stream has the same result however the network cut it: recorded streams and a long one."""

import json
import random

import pytest

from support import golden, openai
from support.translation import Outcome, cut, pieces, translate
from togetherchat_server.domain.reasons import Reason


def failure_of(outcome: Outcome) -> tuple[Reason, str] | None:
    return None if outcome.failure is None else (outcome.failure.reason, outcome.failure.message)


def assert_same(expected: Outcome, outcome: Outcome) -> None:
    assert failure_of(expected) == failure_of(outcome)
    assert pieces(expected.events) == pieces(outcome.events)


def event_ends(data: bytes) -> list[int]:
    """Positions behind a blank line: only a cut there changes which events one read completes."""
    marks = (b"\n\n", b"\r\r", b"\r\n\r\n")
    return [position for position in range(1, len(data)) if data[:position].endswith(marks)]


@pytest.mark.parametrize("case", golden.cases("stream"), ids=golden.name)
def test_byte_by_byte(case):
    """Every golden stream has the same events when it arrives byte by byte."""
    data = golden.upstream(case)

    assert_same(translate([data]), translate(cut(data, range(1, len(data)))))


@pytest.mark.parametrize("case", golden.cases("stream"), ids=golden.name)
def test_cut_between_any_two_events(case):
    """Every golden stream has the same events in two reads, cut at any end of an event.

    The decoder's tests cover cuts elsewhere, at every byte; the slow test below covers both.
    """
    data = golden.upstream(case)
    expected = translate([data])

    for position in event_ends(data):
        assert_same(expected, translate([data[:position], data[position:]]))


@pytest.mark.slow
@pytest.mark.parametrize("case", golden.cases("stream"), ids=golden.name)
def test_cut_at_every_byte(case):
    """Every golden stream has the same events in two reads, cut at any byte."""
    data = golden.upstream(case)
    expected = translate([data])

    for position in range(len(data) + 1):
        assert_same(expected, translate([data[:position], data[position:]]))


def long_stream(tokens: int) -> bytes:
    """A stream of many tokens in two choices, reasoning first, in Together's own shape."""
    vocabulary = ["the", " a", "\n", "é", "\u2028", "\U0001f600", '"', "\\", "}"]
    dice = random.Random(7)
    events: list[openai.Json] = []
    for number in range(tokens):
        key = "reasoning" if number < tokens // 4 else "content"
        delta = {"role": "assistant", "content": "", key: dice.choice(vocabulary)}
        events.append(openai.chunk(index=dice.randrange(2), delta=delta, usage=None))
        events[-1]["choices"][0]["text"] = "x"
    finished = [{"index": index, "finish_reason": "stop", "delta": {}} for index in range(2)]
    events.append({"id": "r", "choices": finished})
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
    return ("".join(lines) + "data: [DONE]\n\n").encode()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_tokens_in_random_reads(seed: int):
    """A stream of 10,000 tokens has the same events in reads of 1 byte to 64 KiB."""
    data = long_stream(10_000)
    dice = random.Random(seed)
    positions = [0]
    while positions[-1] < len(data):
        positions.append(positions[-1] + int(2 ** dice.uniform(0, 16)))

    assert_same(translate([data]), translate(cut(data, positions[1:-1])))
