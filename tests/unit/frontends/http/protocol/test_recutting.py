"""However the bytes of a connection are split, the same requests are served, and no others."""

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fake_connection import FakeConnection


def request(line, *headers, body=b""):
    return "\r\n".join((f"{line} HTTP/1.1", "host: localhost", *headers, "", "")).encode() + body


# What looks like a request within a body is what an attacker who desynchronises a connection wants to have served.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
SIZED = f"content-length: {len(SMUGGLED)}"
CHUNKED = b"%x;a=b\r\n%b\r\n%X\r\n%b\r\n0\r\nauthorization: x\r\nx: y\r\n\r\n" % (
    len(SMUGGLED),
    SMUGGLED,
    len(SMUGGLED),
    SMUGGLED,
)
H2C = (
    "connection: Upgrade, HTTP2-Settings",
    "upgrade: h2c",
    "http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA",
)
SOCKET = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13")

GOOD = [
    (request("GET /plain"), ("GET", "/plain", b"")),
    (b"\r\n" + request("GET /blank"), ("GET", "/blank", b"")),
    (request("POST /sized", SIZED, body=SMUGGLED), ("POST", "/sized", SMUGGLED)),
    (request("POST /empty", "content-length: 0"), ("POST", "/empty", b"")),
    (
        request("POST /chunked", "transfer-encoding: Chunked", body=CHUNKED),
        ("POST", "/chunked", SMUGGLED * 2),
    ),
    (
        request("POST /nothing", "transfer-encoding: chunked", body=b"00\r\n\r\n"),
        ("POST", "/nothing", b""),
    ),
    (request("POST /h2c", *H2C, SIZED, body=SMUGGLED), ("POST", "/h2c", SMUGGLED)),
    (
        request("POST /bytes", "transfer-encoding: chunked", body=b"1\r\nx\r\n" * 3 + b"0\r\n\r\n"),
        ("POST", "/bytes", b"xxx"),
    ),
    (
        request("POST /h2c-chunked", *H2C, "transfer-encoding: chunked", body=CHUNKED),
        ("POST", "/h2c-chunked", SMUGGLED * 2),
    ),
    (request("GET /socket", *SOCKET), ("GET", "/socket", b"")),
    (request("GET http://localhost/absolute?q"), ("GET", "/absolute", b"")),
    (request("POST /expects", "expect: 100-continue", SIZED, body=SMUGGLED), ("POST", "/expects", SMUGGLED)),
    (request("GET /%C3%A9%20x"), ("GET", "/é x", b"")),
]

BAD_HEADS = [
    b"HELLO\r\n\r\n",
    b"GET /\r\n",
    b"GET /\r\nhost: localhost\r\n\r\n",
    b"GET / HTTP/0.9\r\nhost: localhost\r\n\r\n",
    b"GET / HTTP/2.0\r\nhost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost:\r\nhost:\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: user@localhost\r\n\r\n",
    b"GET / HTTP/1.1\nhost: localhost\n\n",
    request("GET /")[:-2] + b"\n",
    request("GET /", "x: a\r\n folded"),
    request("GET /", "x : a"),
    request("GET /", "x: a\rb"),
    request("GET /", "x: \0"),
    request("CONNECT localhost:80"),
    request("POST /", "content-length: 5", "content-length: 5", body=b"hello"),
    request("POST /", "content-length: 5", "content-length: 6", body=b"hello"),
    request("POST /", "content-length: 5, 5", body=b"hello"),
    request("POST /", "content-length: +5", body=b"hello"),
    request("POST /", "content-length: -5", body=b"hello"),
    request("POST /", "content-length: 0x5", body=b"hello"),
    request("POST /", "content-length:", body=b"hello"),
    request("POST /", "content-length: 5", "transfer-encoding: chunked", body=CHUNKED),
    request("POST /", "transfer-encoding: chunked", "content-length: 5", body=CHUNKED),
    request("POST /", "transfer-encoding: gzip", body=SMUGGLED),
    request("POST /", "transfer-encoding: gzip, chunked", body=CHUNKED),
    request("POST /", "transfer-encoding: chunked, gzip", body=CHUNKED),
    request("POST /", "transfer-encoding: chunked", "transfer-encoding: chunked", body=CHUNKED),
    request("POST /", "transfer-encoding: xchunked", body=CHUNKED),
    request("POST /", "transfer-encoding: chunked", body=CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    request("POST /", *H2C, "transfer-encoding: gzip", body=SMUGGLED),
]

BAD_CHUNKS = [
    b"x\r\n",
    b"\r\n",
    b" 5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\r\nhelloX\r\n",
    b"5\r\nhello\n",
    b"5\r\nhello\r\r\n",
    b"0x5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"5_0\r\n",
    b"-1\r\n",
    b"1" * 16 + b"\r\n",
    b"5;a=\r\0\r\n",
    b"0\r\nno trailer\r\n\r\n",
    b"0\r\nx: a\n\r\n",
    b"0\r\n x: a\r\n\r\n",
    b"0\r\n" + SMUGGLED,
]


async def served(pieces, *, run=True):
    """Return the requests that the application received, and the responses."""
    fake = FakeConnection()
    for piece in pieces:
        await fake.feed(piece, run=run)
    outcome = fake.application.seen, fake.responses(), fake.transport.over
    fake.lose()
    return outcome


STREAM = b"".join(data for data, _ in GOOD)
SEEN = [seen for _, seen in GOOD]


@pytest.mark.parametrize("run", [True, False])
async def test_a_stream_that_is_split_once(run):
    """The split is at every byte, with and without running the application at the split."""
    for cut in range(len(STREAM)):
        seen, responses, over = await served([STREAM[:cut], STREAM[cut:]], run=run)
        assert SEEN == seen, cut
        assert [200] * len(GOOD) == [status for status, _ in responses], cut
        assert not over, cut


async def test_a_stream_that_arrives_byte_by_byte():
    """Each byte is a read of its own."""
    seen, _, _ = await served([bytes((one,)) for one in STREAM])

    assert SEEN == seen


@pytest.mark.parametrize("bad", BAD_HEADS, ids=range(len(BAD_HEADS)))
async def test_a_malformed_head_ends_the_connection(bad):
    """The status is 400, and nothing after the head is served, at whatever byte it is split."""
    before, seen_before = GOOD[2]
    data = before + bad + SMUGGLED
    for cut in range(len(before) - 1, len(before + bad) + 1):
        seen, responses, over = await served([data[:cut], data[cut:]])
        assert ([seen_before], True) == (seen, over), cut
        assert [200, 400] == [status for status, _ in responses], cut


@pytest.mark.parametrize("bad", BAD_CHUNKS, ids=range(len(BAD_CHUNKS)))
async def test_a_malformed_chunk_ends_the_connection(bad):
    """The application gets a disconnect, and nothing after the chunk is served."""
    good = request("POST /broken", "transfer-encoding: chunked", body=b"5\r\nhello\r\n")
    data = good + bad + SMUGGLED
    for cut in range(len(good) - 8, len(good + bad) + 1):
        seen, responses, over = await served([data[:cut], data[cut:]])
        assert ([("POST", "/broken", "broken off")], True) == (seen, over), cut
        assert 1 == len(responses), cut


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_requests_split_anywhere(data):
    """Every request is served in order with its own body, pipelined or not."""
    chosen = data.draw(st.lists(st.sampled_from(GOOD), min_size=1, max_size=6))
    stream = b"".join(one for one, _ in chosen)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]

    seen, responses, _ = asyncio.run(served(pieces, run=data.draw(st.booleans())))

    assert [one for _, one in chosen] == seen
    assert len(chosen) == len(responses)


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=60), at=st.integers(0, len(STREAM)), cut=st.integers(0, len(STREAM)))
def test_random_bytes_within_a_stream(noise, at, cut):
    """Their effect does not depend on where the stream is split."""
    stream = STREAM[:at] + noise + STREAM[at:]

    whole = asyncio.run(served([stream]))

    assert whole == asyncio.run(served([stream[:cut], stream[cut:]]))
