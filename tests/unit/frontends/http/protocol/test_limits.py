"""The bounds of a connection, to the byte."""

import pytest

from support.fake_connection import Echo, FakeConnection
from togetherchat_server.frontends.http.protocol.request_body import (
    CHUNK_LINE_BYTES_MAX,
    TRAILER_BYTES_MAX,
    BadRequestError,
    ChunkedBody,
)
from togetherchat_server.frontends.http.protocol.request_head import RequestHead

START = b"GET / HTTP/1.1\r\nhost: a\r\nx: "
END = b"\r\n\r\n"


def head_of(size):
    return START + b"y" * (size - len(START) - len(END)) + END


def cuts_of(data):
    """The data in one piece, in two at each of some places, and byte by byte."""
    yield [data]
    yield from ([data[:cut], data[cut:]] for cut in (1, len(START), len(data) - 3, len(data) - 1))
    yield [bytes((one,)) for one in data]


@pytest.mark.parametrize("blank", [b"", b"\r\n"])
async def test_a_head_may_be_as_large_as_its_bound_and_not_a_byte_larger(blank):
    """However it is cut, and whatever stands before and behind it. Empty lines before it count."""
    for size, status in ((300, 200), (301, 431)):
        for pieces in cuts_of(blank + head_of(size - len(blank))):
            fake = FakeConnection(head_bytes_max=300)
            for piece in pieces:
                await fake.feed(piece)
            assert [status] == [status for status, _ in fake.responses()]
            fake.lose()


async def test_the_bound_of_a_head_does_not_count_its_neighbours():
    """Three requests in one piece, each as large as it may be."""
    fake = FakeConnection(head_bytes_max=300)
    await fake.feed(head_of(300) * 3)

    assert [200] * 3 == [status for status, _ in fake.responses()]


def test_empty_lines_do_not_come_for_ever():
    """They are part of the head that they delay."""
    head = RequestHead(bytes_max=100)
    for _ in range(50):
        assert head.feed(b"\r\n") is None
    with pytest.raises(BadRequestError, match="too large"):
        head.feed(b"\r\n")


def trailers_of(size):
    trailers = b"a: b\r\n" + b"x: " + b"y" * (size - 11) + b"\r\n"
    assert size == len(trailers)
    return b"0\r\n" + trailers + b"\r\n"


def fed(body, data, step):
    """What follows the body."""
    rest = None
    for at in range(0, len(data), step):
        _, rest = body.feed(data[at : at + step])
    return rest


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_trailers_may_be_as_large_as_their_bound(step):
    """All of them together; the empty line that ends them is not counted."""
    assert b"" == fed(ChunkedBody(), trailers_of(TRAILER_BYTES_MAX), step)
    with pytest.raises(BadRequestError, match="trailers"):
        fed(ChunkedBody(), trailers_of(TRAILER_BYTES_MAX + 1), step)


def test_a_trailer_without_an_end_is_not_kept():
    """It is rejected when it passes the bound, not when it ends."""
    body = ChunkedBody()
    body.feed(b"0\r\nx: ")
    with pytest.raises(BadRequestError, match="trailers"):
        body.feed(b"y" * TRAILER_BYTES_MAX)


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_the_line_of_a_chunk_is_bounded(end):
    """Its extensions too, whether it ends or not."""
    with pytest.raises(BadRequestError):
        ChunkedBody().feed(b"5;" + b"a" * CHUNK_LINE_BYTES_MAX + end)


async def test_a_body_that_nobody_reads_stops_the_reading():
    """When it passes the bound; reading goes on when the application reads."""
    fake = FakeConnection(held_bytes_max=1000)
    fake.application.gate.clear()
    await fake.feed(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n" + b"x" * 1000)
    assert not fake.transport.paused
    await fake.feed(b"x")
    assert fake.transport.paused

    fake.application.gate.set()
    await fake.run()
    assert not fake.transport.paused
    await fake.feed(b"x" * 999)

    assert [("POST", "/", b"x" * 2000)] == fake.application.seen


async def test_a_body_that_is_read_does_not_stop_the_reading():
    """A large one that the application waits for."""
    fake = FakeConnection(held_bytes_max=1000)
    await fake.feed(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n")
    for _ in range(2):
        await fake.feed(b"x" * 100_000, run=False)
        assert not fake.transport.paused

    assert 200_000 == len(fake.application.seen[0][2])


async def test_requests_that_come_too_early_stop_the_reading():
    """They are held unparsed, so many bytes of them, and served in order afterwards."""
    fake = FakeConnection(held_bytes_max=len(head_of(100)) * 2)
    fake.application.gate.clear()
    await fake.feed(head_of(100) * 3)
    assert not fake.transport.paused
    await fake.feed(head_of(100))
    assert fake.transport.paused
    assert ["/"] == fake.application.begun

    fake.application.gate.set()
    await fake.run()

    assert [200] * 4 == [status for status, _ in fake.responses()]
    assert not fake.transport.paused


async def test_a_connection_too_many_is_cut():
    """It is counted, and forgotten when it is lost."""
    first = FakeConnection(connections_max=1)
    second = FakeConnection(Echo(), connections_max=0)

    assert (False, True) == (first.transport.aborted, second.transport.aborted)
    await second.run()
    assert set() == second.listener.connections
    assert second.listener.all_closed.is_set()
