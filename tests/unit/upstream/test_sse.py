"""The decoder of server-sent events, by the WHATWG's rules and examples."""

import time
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import golden
from support.translation import cut
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream.sse import SseDecoder, SseEvent


def decoded(*reads: bytes, max_event_bytes: int = 1 << 20) -> list[SseEvent]:
    decoder = SseDecoder(max_event_bytes=max_event_bytes)
    return [event for read in reads for event in decoder.feed(read)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data: one\n\n", [b"one"], id="one line"),
        pytest.param(b"data: one\n\ndata: two\n\n", [b"one", b"two"], id="two events in a read"),
        pytest.param(b"data: YHOO\ndata: +2\ndata: 10\n\n", [b"YHOO\n+2\n10"], id="lines are joined"),
        pytest.param(b"data:test\n\ndata: test\n\n", [b"test", b"test"], id="the space is optional"),
        pytest.param(b"data:  two\n\n", [b" two"], id="only one space is dropped"),
        pytest.param(b"data\n\ndata\ndata\n\ndata:\n\ndata:  \n\ndata:", [], id="empty data lines"),
        pytest.param(b"data:\n\ndata: a\n\ndata:\n\n", [b"a"], id="empty data between events"),
        pytest.param(b": comment\n\ndata: a\n: more\ndata: b\n\n", [b"a\nb"], id="comments are not data"),
        pytest.param(
            b"id: 1\nretry: 10\nother: x\nnocolon\ndata: a\n\n", [b"a"], id="other fields are ignored"
        ),
        pytest.param(b"event: add\nid: 1\n\n", [], id="no data, no event"),
        pytest.param(b"\n\n\n", [], id="blank lines"),
        pytest.param(b"data: a:b: c\n\n", [b"a:b: c"], id="the first colon counts"),
        pytest.param(b"Data: a\ndata : b\n data: c\n\n", [], id="names are exact"),
        pytest.param(b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [b"a", b"b", b"c"], id="all three line ends"),
        pytest.param(b"data: a\r\n\n", [b"a"], id="mixed line ends"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [b"a"], id="byte order mark"),
        pytest.param(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", [], id="only one mark is dropped"),
        pytest.param(b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"], id="a later mark is part of the name"),
        pytest.param(b"data: a\n", [], id="an event without its blank line is dropped"),
        pytest.param(b"data: a", [], id="an event cut inside a line is dropped"),
        pytest.param(b"event: a\n", [], id="a name alone is dropped"),
        pytest.param(b"\xef\xbb", [], id="half a byte order mark is dropped"),
        pytest.param(b": keepalive\n\n:\ndata: a\n\n", [b"a"], id="a keep-alive ends no event"),
    ],
)
def test_data(stream: bytes, expected: list[bytes]):
    """The data of each event."""
    assert expected == [event.data for event in decoded(stream)]


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\u0085", "\f", "\v", "\x1c", "\x00"])
def test_other_line_ends_do_not_end_a_line(text: str):
    """Characters that Python treats as line ends may be inside a JSON string."""
    data = f'{{"t":"a{text}b"}}'.encode()

    assert [SseEvent("", data)] == decoded(b"data: " + data + b"\n\n")


def test_invalid_utf_8_passes():
    """Data is checked for UTF-8 later, because a repair needs the complete data."""
    assert [SseEvent("", b"\xff\xc3")] == decoded(b"data: \xff\xc3\n\n")


def test_name():
    """An event has the last name before its blank line; the next event starts without one."""
    events = decoded(
        b"event: error\ndata: a\n\ndata: b\n\nevent: x\n\ndata: c\n\nevent: a\nevent: b\xff\ndata: d\n\n"
    )

    assert [("error", b"a"), ("", b"b"), ("", b"c"), ("b\ufffd", b"d")] == [(e.name, e.data) for e in events]


@pytest.mark.parametrize("case", golden.cases("stream"), ids=golden.name)
def test_any_cut_gives_the_same_events(case):
    """Every recorded stream has the same events cut in two at any byte, and byte by byte."""
    data = golden.upstream(case)
    expected = decoded(data)

    assert expected == decoded(*cut(data, range(1, len(data))))
    for position in range(len(data) + 1):
        assert expected == decoded(data[:position], data[position:])


def test_line_ends_may_be_cut_in_half():
    """A CR ends its line at once; only a LF directly behind it belongs to the same line end."""
    data = b"data: a\r\ndata: b\r\n\r\ndata: c\rdata: d\n\ndata: e\n\r"
    expected = [SseEvent("", b"a\nb"), SseEvent("", b"c\nd"), SseEvent("", b"e")]

    for positions in combinations(range(len(data) + 1), 2):
        assert expected == decoded(*cut(data, positions))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b"data:", b"event:", b":", b" ", b"a", b"\xef\xbb\xbf", b"\xff"])
    ),
    st.data(),
)
def test_any_bytes_in_any_cuts_give_the_same_events(parts: list[bytes], draw: st.DataObject):
    """Random streams have the same events however they are cut."""
    data = b"".join(parts)
    positions = draw.draw(st.lists(st.integers(0, len(data)), max_size=6))

    assert decoded(data) == decoded(*cut(data, positions))


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"data: " + b"a" * 95 + b"\n\n", id="line"),
        pytest.param(b"data: " + b"a" * 95, id="unfinished line"),
        pytest.param(b":" + b"a" * 100, id="comment"),
        pytest.param(b"data: aaaaaaaaaa\n" * 10, id="event of many lines"),
        pytest.param(b"data\n" * 200, id="event of many empty lines"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_too_large(stream: bytes, step: int):
    """A line or an event above the bound fails, however it arrives."""
    reads = cut(stream, range(step, len(stream), step))

    with pytest.raises(ServiceError) as failure:
        decoded(*reads, max_event_bytes=100)

    assert Reason.UPSTREAM_TOO_LARGE == failure.value.reason


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_the_bound_is_for_each_event(step: int):
    """Any number of events at the bound passes, and of comments without a blank line in between."""
    stream = (b"data: " + b"a" * 94 + b"\n\n" + b": keepalive\n" * 20) * 3

    events = decoded(*cut(stream, range(step, len(stream), step)), max_event_bytes=100)

    assert [b"a" * 94] * 3 == [event.data for event in events]


@pytest.mark.slow
def test_byte_by_byte_is_not_quadratic():
    """Four times the bytes take about four times as long, not sixteen."""

    def cost_s(size: int) -> float:
        decoder = SseDecoder(max_event_bytes=size * 2)
        data = b"data: " + b"a" * size + b"\n\n"
        start_s = time.process_time()
        for position in range(len(data)):
            decoder.feed(data[position : position + 1])
        return time.process_time() - start_s

    assert cost_s(800_000) / cost_s(200_000) < 9


def test_comments_are_counted():
    """A server sends them as signs of life; they are no events, wherever they are cut."""
    decoder = SseDecoder(max_event_bytes=64)

    counts: list[int] = []
    for data in (b": PROC", b"ESSING\n\n", b":\n: a\n", b"data: x\n\n", b"id: 7\n\n"):
        decoder.feed(data)
        counts.append(decoder.comments)

    assert [0, 1, 3, 3, 3] == counts
