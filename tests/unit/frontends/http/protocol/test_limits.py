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
    """Yield the data whole, split in two at several positions, and byte by byte."""
    yield [data]
    yield from ([data[:cut], data[cut:]] for cut in (1, len(START), len(data) - 3, len(data) - 1))
    yield [bytes((one,)) for one in data]


@pytest.mark.parametrize("blank", [b"", b"\r\n"])
async def test_the_bound_on_the_head_is_exact(blank):
    """This holds for any split and any neighbours. Empty lines before the head count."""
    for size, status in ((300, 200), (301, 431)):
        for pieces in cuts_of(blank + head_of(size - len(blank))):
            fake = FakeConnection(head_bytes_max=300)
            for piece in pieces:
                await fake.feed(piece)
            assert [status] == [status for status, _ in fake.responses()]
            fake.lose()


async def test_the_bound_on_the_head_excludes_other_requests():
    """Three requests of the largest size arrive together."""
    fake = FakeConnection(head_bytes_max=300)
    await fake.feed(head_of(300) * 3)

    assert [200] * 3 == [status for status, _ in fake.responses()]


def test_empty_lines_before_a_head_are_bounded():
    """They count as part of the head that follows."""
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
    """Feed the data in steps. Return the bytes that follow the body."""
    rest = None
    for at in range(0, len(data), step):
        _, rest = body.feed(data[at : at + step])
    return rest


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_the_bound_on_trailers_is_exact(step):
    """All trailers count together; the empty line at their end does not."""
    assert b"" == fed(ChunkedBody(), trailers_of(TRAILER_BYTES_MAX), step)
    with pytest.raises(BadRequestError, match="trailers"):
        fed(ChunkedBody(), trailers_of(TRAILER_BYTES_MAX + 1), step)


def test_an_endless_trailer_is_not_buffered():
    """The request is rejected as soon as the trailer exceeds the bound."""
    body = ChunkedBody()
    body.feed(b"0\r\nx: ")
    with pytest.raises(BadRequestError, match="trailers"):
        body.feed(b"y" * TRAILER_BYTES_MAX)


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_the_line_of_a_chunk_is_bounded(end):
    """Extensions count, whether the line ends or not."""
    with pytest.raises(BadRequestError):
        ChunkedBody().feed(b"5;" + b"a" * CHUNK_LINE_BYTES_MAX + end)


async def test_an_unread_body_pauses_reading():
    """Reading stops at the bound and resumes when the application reads."""
    fake = FakeConnection(buffered_bytes_max=1000)
    fake.application.may_respond.clear()
    await fake.feed(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n" + b"x" * 1000)
    assert not fake.transport.paused
    await fake.feed(b"x")
    assert fake.transport.paused

    fake.application.may_respond.set()
    await fake.run()
    assert not fake.transport.paused
    await fake.feed(b"x" * 999)

    assert [("POST", "/", b"x" * 2000)] == fake.application.seen


async def test_a_body_that_is_read_does_not_pause_reading():
    """The application waits for a large body."""
    fake = FakeConnection(buffered_bytes_max=1000)
    await fake.feed(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n")
    for _ in range(2):
        await fake.feed(b"x" * 100_000, run=False)
        assert not fake.transport.paused

    assert 200_000 == len(fake.application.seen[0][2])


async def test_pipelined_requests_pause_reading():
    """They are held unparsed up to a bound, and served in order afterwards."""
    fake = FakeConnection(buffered_bytes_max=len(head_of(100)) * 2)
    fake.application.may_respond.clear()
    await fake.feed(head_of(100) * 3)
    assert not fake.transport.paused
    await fake.feed(head_of(100))
    assert fake.transport.paused
    assert ["/"] == fake.application.begun

    fake.application.may_respond.set()
    await fake.run()

    assert [200] * 4 == [status for status, _ in fake.responses()]
    assert not fake.transport.paused


async def test_a_connection_beyond_the_bound_is_aborted():
    """A lost connection no longer counts."""
    first = FakeConnection(connections_max=1)
    second = FakeConnection(Echo(), connections_max=0)

    assert (False, True) == (first.transport.aborted, second.transport.aborted)
    await second.run()
    assert set() == second.listener.connections
    assert second.listener.all_closed.is_set()
