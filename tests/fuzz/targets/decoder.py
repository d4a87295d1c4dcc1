"""The decoder of server-sent events: a stream has the same events however it is cut.

Input: the bound on an event, the number of cuts, the cuts, then the stream. The same bytes are
decoded in one read, in the fuzzed reads and byte by byte, and by a few lines written from the
WHATWG's text that do not know reads. The only failure is UPSTREAM_TOO_LARGE, and the decoder never
buffers more than the bound.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from fuzz.tape import Tape
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream.sse import SseDecoder, SseEvent

BOUNDS = (1 << 20, 4096, 256, 32, 8)
CUTS_MAX = 12
BYTE_BY_BYTE_MAX = 512

_LINE_END = re.compile(rb"\r\n|\r|\n")


def target(data: bytes) -> None:
    tape = Tape(data)
    bound = tape.pick(BOUNDS)
    cuts = [tape.number(65_535) for _ in range(tape.number(CUTS_MAX))]
    stream = tape.rest()
    expected, failed = _reference(stream, bound)
    positions = sorted(cut % (len(stream) + 1) for cut in cuts)
    ways = [[], positions]
    if len(stream) <= BYTE_BY_BYTE_MAX:
        ways.append([*range(1, len(stream))])
    for way in ways:
        reads = [stream[start:end] for start, end in pairwise([0, *way, len(stream)])]
        _check(reads, bound, expected, failed=failed)


def _check(reads: Sequence[bytes], bound: int, expected: Sequence[SseEvent], *, failed: bool) -> None:
    decoder = SseDecoder(max_event_bytes=bound)
    events: list[SseEvent] = []
    failure: ServiceError | None = None
    try:
        for read in reads:
            events += decoder.feed(read)
            assert len(decoder._line) + decoder._data_bytes <= bound
            assert len(decoder._data) <= decoder._data_bytes
    except ServiceError as error:
        failure = error
    assert failed is (failure is not None)
    assert failure is None or failure.reason is Reason.UPSTREAM_TOO_LARGE
    # The read that exceeds the bound returns none of its events.
    assert events == list(expected[: len(events)] if failed else expected)


def _reference(stream: bytes, bound: int) -> tuple[list[SseEvent], bool]:
    """The events of a complete stream, and whether a line or an event in it exceeds the bound."""
    *lines, unfinished = _LINE_END.split(stream.removeprefix(b"\xef\xbb\xbf"))
    if unfinished in {b"\xef", b"\xef\xbb"} and not lines:
        unfinished = b""  # held back: it may become a byte order mark
    events: list[SseEvent] = []
    name, data = "", list[bytes]()
    for line in lines:
        if sum(len(value) + 1 for value in data) + len(line) > bound:
            return events, True
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if b"\n".join(data).strip():
                events.append(SseEvent(name, b"\n".join(data)))
            name, data = "", []
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return events, sum(len(value) + 1 for value in data) + len(unfinished) > bound
