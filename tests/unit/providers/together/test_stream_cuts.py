"""A stream means the same however the network cut it: recorded streams and a long one."""

import json
import random

import pytest

from support import golden
from support.translation import Outcome, cut, pieces, translate
from togetherchat_server.domain.reasons import Reason


def ending(outcome: Outcome) -> tuple[Reason, str] | None:
    return None if outcome.failure is None else (outcome.failure.reason, outcome.failure.message)


def assert_same(expected: Outcome, outcome: Outcome) -> None:
    assert ending(expected) == ending(outcome)
    assert pieces(expected.events) == pieces(outcome.events)


def event_ends(data: bytes) -> list[int]:
    """Just behind each blank line: the only places where a cut changes what is taken together."""
    marks = (b"\n\n", b"\r\r", b"\r\n\r\n")
    return [place for place in range(1, len(data)) if data[:place].endswith(marks)]


@pytest.mark.parametrize("case", golden.cases("stream"), ids=golden.name)
def test_byte_by_byte(case):
    """Every golden stream, one byte a read."""
    data = golden.upstream(case)

    assert_same(translate([data]), translate(cut(data, range(1, len(data)))))


@pytest.mark.parametrize("case", golden.cases("stream"), ids=golden.name)
def test_cut_between_any_two_events(case):
    """Every golden stream in two reads, at every end of an event.

    That cuts elsewhere give the same events is a test of the decoder's, for every byte; the
    slow test below does both together.
    """
    data = golden.upstream(case)
    expected = translate([data])

    for place in event_ends(data):
        assert_same(expected, translate([data[:place], data[place:]]))


@pytest.mark.slow
@pytest.mark.parametrize("case", golden.cases("stream"), ids=golden.name)
def test_cut_at_every_byte(case):
    """Every golden stream in two reads, at every byte."""
    data = golden.upstream(case)
    expected = translate([data])

    for place in range(len(data) + 1):
        assert_same(expected, translate([data[:place], data[place:]]))


def long_stream(tokens: int) -> bytes:
    """An answer of many tokens in two choices, thinking first, in Together's own shape."""
    vocabulary = ["the", " a", "\n", "é", "\u2028", "\U0001f600", '"', "\\", "}"]
    dice = random.Random(7)
    events: list[dict[str, object]] = []
    for number in range(tokens):
        key = "reasoning" if number < tokens // 4 else "content"
        delta = {"role": "assistant", "content": "", key: dice.choice(vocabulary)}
        choice = {"index": dice.randrange(2), "text": "x", "finish_reason": None, "delta": delta}
        events.append({"id": "r", "created": 1, "model": "m", "choices": [choice], "usage": None})
    finished = [{"index": index, "finish_reason": "stop", "delta": {}} for index in range(2)]
    events.append({"id": "r", "choices": finished})
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
    return ("".join(lines) + "data: [DONE]\n\n").encode()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_tokens_in_random_reads(seed: int):
    """Reads of 1 byte to 64 KiB, as a socket gives them."""
    data = long_stream(10_000)
    dice = random.Random(seed)
    places = [0]
    while places[-1] < len(data):
        places.append(places[-1] + int(2 ** dice.uniform(0, 16)))

    assert_same(translate([data]), translate(cut(data, places[1:-1])))
