"""The states of an HTTP/1.1 client connection, without a socket."""

import pytest

from togetherchat_server.domain.reasons import Reason
from togetherchat_server.upstream.http1_exchange import KEEPALIVE_RACE_S, ExchangeState, Http1Exchange
from togetherchat_server.upstream.transport_errors import StaleConnectionError

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
INFORMED = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + LENGTH


@pytest.fixture
def now_s() -> list[float]:
    return [0.0]


def waiting(now_s) -> Http1Exchange:
    exchange = Http1Exchange(now_s=lambda: now_s[0])
    exchange.begin()
    exchange.request_sent()
    return exchange


@pytest.fixture
def exchange(now_s) -> Http1Exchange:
    """An exchange whose request was sent."""
    return waiting(now_s)


def test_each_step_of_an_exchange_has_its_state():
    """The states follow each other, and the connection can be reused."""
    exchange = Http1Exchange(now_s=lambda: 0.0)
    states = [exchange.state]
    steps = [
        exchange.begin,
        exchange.request_sent,
        lambda: exchange.feed(LENGTH[:30]),
        lambda: exchange.feed(LENGTH[30:-1]),
        lambda: exchange.feed(LENGTH[-1:]),
        lambda: exchange.take() and exchange.release(),
    ]
    for step in steps:
        step()
        states.append(exchange.state)
    assert [
        ExchangeState.IDLE, ExchangeState.SENDING, ExchangeState.HEADERS, ExchangeState.HEADERS, ExchangeState.BODY, ExchangeState.DONE, ExchangeState.IDLE
    ] == states  # fmt: skip


@pytest.mark.parametrize(
    ("response", "state"),
    [
        (LENGTH, ExchangeState.DONE),
        (CHUNKED, ExchangeState.DONE),
        (INFORMED, ExchangeState.DONE),
        (UNTIL_CLOSE, ExchangeState.BODY),
        (LAST, ExchangeState.CLOSED),
        (LENGTH + b"x", ExchangeState.CLOSED),
        (LENGTH + LENGTH, ExchangeState.CLOSED),
    ],
    ids=[
        "length",
        "chunks",
        "informational",
        "neither",
        "Connection: close",
        "a byte behind",
        "a second one",
    ],
)
def test_a_response_reads_the_same_however_it_is_cut(now_s, response, state):
    """Two parts, cut at every byte, give the same body and state."""
    for cut in range(len(response)):
        exchange = waiting(now_s)
        exchange.feed(response[:cut])
        body = exchange.take()
        exchange.feed(response[cut:])
        body += exchange.take()
        assert (200, b"hello", state, None) == (exchange.status, body, exchange.state, exchange.failure)


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"", Reason.UPSTREAM_RESET),
        (LENGTH[:20], Reason.UPSTREAM_RESET),
        (LENGTH[:-1], Reason.UPSTREAM_TRUNCATED),
        (CHUNKED[:-1], Reason.UPSTREAM_TRUNCATED),
    ],
)
def test_a_connection_that_ends_fails_what_is_incomplete(exchange, received, reason):
    """The reason depends on whether the head had been received."""
    exchange.feed(received)
    exchange.end(None)
    assert (ExchangeState.CLOSED, reason) == (exchange.state, exchange.failure.reason)


@pytest.mark.parametrize(("cause", "reason"), [(None, None), (OSError(), Reason.UPSTREAM_TRUNCATED)])
def test_a_body_without_length_ends_with_a_fin_and_not_with_a_reset(exchange, cause, reason):
    """A reset proves nothing about the end of the body."""
    exchange.feed(UNTIL_CLOSE)
    exchange.end(cause)
    assert b"hello" == exchange.take()
    assert reason == (exchange.failure and exchange.failure.reason)


def test_the_end_after_a_complete_response_is_not_a_failure(exchange):
    """The bytes that were received before can still be read."""
    exchange.feed(LENGTH)
    exchange.end(ConnectionResetError())
    assert (ExchangeState.CLOSED, None, b"hello") == (exchange.state, exchange.failure, exchange.take())
    assert not exchange.release()


def test_a_response_to_half_a_request_closes_the_connection():
    """The upstream would read the next request as the rest of the first."""
    exchange = Http1Exchange(now_s=lambda: 0.0)
    exchange.begin()
    exchange.feed(LENGTH)
    assert (ExchangeState.CLOSED, None, b"hello") == (exchange.state, exchange.failure, exchange.take())


def test_an_unread_body_prevents_reuse(exchange):
    """A connection is reused only after its response was read."""
    exchange.feed(LENGTH)
    assert not exchange.release()


@pytest.mark.parametrize(("after_s", "stale"), [(KEEPALIVE_RACE_S, True), (KEEPALIVE_RACE_S + 0.1, False)])
@pytest.mark.parametrize("received", [b"", b"H"])
def test_only_a_reused_connection_without_a_byte_is_stale(exchange, now_s, received, after_s, stale):
    """One that worked for longer, or that sent a byte, has seen the request."""
    exchange.feed(LENGTH)
    exchange.take()
    assert exchange.release()
    exchange.begin()
    exchange.request_sent()
    exchange.feed(received)
    now_s[0] += after_s
    exchange.end(ConnectionResetError())
    assert (stale and not received) == isinstance(exchange.failure, StaleConnectionError)
    assert Reason.UPSTREAM_RESET == exchange.failure.reason


def test_a_request_on_a_connection_that_has_ended_fails():
    """The peer may close a connection between its handshake and the first request."""
    exchange = Http1Exchange(now_s=lambda: 0.0)
    exchange.end(None)
    exchange.begin()
    assert (ExchangeState.CLOSED, Reason.UPSTREAM_RESET) == (exchange.state, exchange.failure.reason)


@pytest.mark.parametrize(
    ("start", "more", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 1000, Reason.UPSTREAM_MALFORMED_RESPONSE),
        (CHUNKED[:-2], b"trailer: 1\r\n", Reason.UPSTREAM_TRUNCATED),
    ],
    ids=["head", "trailers"],
)
def test_bytes_without_progress_are_bounded(exchange, start, more, reason):
    """Neither a head nor the framing behind a body can continue without an end."""
    exchange.feed(start)
    for _ in range(100_000 // len(more)):
        exchange.feed(more)
    assert (ExchangeState.CLOSED, reason) == (exchange.state, exchange.failure.reason)
