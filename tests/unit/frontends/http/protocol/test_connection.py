"""A connection between requests, at its end, and when its caller leaves."""

import asyncio
import logging

import pytest

from support.fake_connection import FakeConnection
from support.waiting import eventually

GET = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n"


class Scripted:
    """An application that runs the script of a test."""

    def __init__(self, script):
        self.script = script
        self.may_respond = asyncio.Event()
        self.may_respond.set()
        self.cancelled = False

    async def __call__(self, scope, receive, send):
        try:
            await self.script(scope, receive, send)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def start(status=200, *headers):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body=b"", *, more=False):
    return {"type": "http.response.body", "body": body, "more_body": more}


async def respond(scope, receive, send):
    await send(start(200, (b"content-length", b"2")))
    await send(piece(b"ok"))


async def wait(scope, receive, send):
    await asyncio.Event().wait()


async def stream(scope, receive, send):
    await send(start(200))
    await send(piece(b"one", more=True))
    await send(piece(b"", more=True))
    await send(piece(b"two"))


async def test_the_head_is_sent_with_the_first_part():
    """Both are one write; nothing is written for the head alone."""
    fake = FakeConnection(Scripted(respond))
    await fake.feed(GET)

    assert b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\nok" == fake.transport.written


async def test_a_response_without_a_length_is_chunked():
    """The last chunk ends the body."""
    fake = FakeConnection(Scripted(stream))
    await fake.feed(GET)

    _, _, body = fake.transport.written.partition(b"transfer-encoding: chunked\r\n\r\n")
    assert b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" == body
    assert not fake.transport.over


async def test_a_response_to_http_1_0_ends_with_the_connection():
    """HTTP/1.0 does not support chunks."""
    fake = FakeConnection(Scripted(stream))
    await fake.feed(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")

    head, _, body = fake.transport.written.partition(b"\r\n\r\n")
    assert b"onetwo" == body
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert fake.transport.closed


@pytest.mark.parametrize("script", [respond, stream])
async def test_a_response_to_head_has_no_body(script):
    """The connection stays open."""
    fake = FakeConnection(Scripted(script))
    await fake.feed(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert fake.transport.written.endswith(b"\r\n\r\n")
    assert 1 == fake.transport.written.count(b"\r\n\r\n")
    await fake.feed(GET)

    assert 2 == fake.transport.written.count(b"HTTP/1.1 200 OK")


async def test_100_continue_is_sent_when_the_application_reads():
    """`100 Continue` is sent once, before the response."""
    fake = FakeConnection()
    fake.application.may_respond.clear()
    await fake.feed(POST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"))
    assert b"" == fake.transport.written
    fake.application.may_respond.set()
    await fake.run()
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == fake.transport.written
    await fake.feed(b"hello")

    assert 1 == fake.transport.written.count(b"100 Continue")
    assert [("POST", "/a", b"hello")] == fake.application.seen


async def test_a_connection_without_the_expected_100_continue_is_closed():
    """The next bytes could be the body or another request."""
    fake = FakeConnection(Scripted(respond))
    await fake.feed(POST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"))

    assert b"connection: close\r\n" in fake.transport.written
    assert fake.transport.ended


async def test_an_unread_body_is_dropped():
    """The next request is served."""
    fake = FakeConnection(Scripted(respond))
    await fake.feed(POST)
    await fake.feed(b"hel")
    await fake.feed(b"lo" + GET)

    assert 2 == fake.transport.written.count(b"HTTP/1.1 200 OK")


async def test_receive_waits_after_the_end_of_the_body():
    """`receive` does not return while the caller is connected; a disconnect cancels it."""
    messages = []

    async def script(scope, receive, send):
        messages.append(await receive())
        messages.append(await receive())

    fake = FakeConnection(Scripted(script))
    await fake.feed(POST + b"hello")
    assert [{"type": "http.request", "body": b"hello", "more_body": False}] == messages
    fake.lose()
    await fake.run()

    assert 1 == len(messages)


@pytest.mark.parametrize("request_bytes", [GET, POST, POST + b"hello", GET + GET])
async def test_a_caller_that_leaves_cancels_the_application(request_bytes):
    """This holds although the application reads nothing and further requests wait."""
    fake = FakeConnection(Scripted(wait))
    await fake.feed(request_bytes)
    fake.lose()
    await fake.run()

    assert fake.application.cancelled
    assert set() == fake.listener.tasks


async def test_a_caller_that_ends_its_side_has_left():
    """This holds while an application runs; otherwise the connection is closed in order."""
    busy, idle = FakeConnection(Scripted(wait)), FakeConnection()
    await busy.feed(GET)
    await idle.feed(GET)

    assert not busy.connection.eof_received()
    assert not idle.connection.eof_received()
    assert (True, False) == (busy.transport.aborted, idle.transport.aborted)


async def test_a_write_waits_for_a_slow_caller():
    """The next part is sent when the transport resumes writing."""
    fake = FakeConnection(Scripted(stream))
    fake.connection.pause_writing()
    await fake.feed(GET)
    assert b"" == fake.transport.written
    fake.connection.resume_writing()
    await fake.run()

    assert fake.transport.written.endswith(b"0\r\n\r\n")


async def raises(scope, receive, send):
    raise ValueError("canary")


async def returns(scope, receive, send):
    await send(start())


async def injects(scope, receive, send):
    await send(start(200, (b"x", b"a\r\nset-cookie: b")))


async def overruns(scope, receive, send):
    await send(start(200, (b"content-length", b"1")))
    await send(piece(b"ok"))


@pytest.mark.parametrize("script", [raises, returns, injects, overruns])
async def test_a_failure_of_the_application_is_a_500(script, caplog):
    """The connection is aborted instead if the response has started."""
    with caplog.at_level(logging.CRITICAL):
        fake = FakeConnection(Scripted(script))
        await fake.feed(GET)

    assert fake.transport.written.startswith(b"HTTP/1.1 500 ") or fake.transport.aborted
    assert b"set-cookie" not in fake.transport.written
    assert fake.transport.over


async def breaks_off(scope, receive, send):
    await send(start())
    await send(piece(b"one", more=True))


async def test_a_body_without_an_end_stays_without_one():
    """Otherwise the partial response would look complete. The connection is aborted after `linger_s`."""
    fake = FakeConnection(Scripted(breaks_off), linger_s=0.01)
    await fake.feed(GET)
    await eventually(lambda: fake.transport.over)

    assert fake.transport.aborted
    assert fake.transport.written.endswith(b"3\r\none\r\n")


async def test_a_body_without_an_end_waits_for_the_client_to_close():
    """A client that reads slowly may discard what it has not read when the connection closes."""
    fake = FakeConnection(Scripted(breaks_off))
    await fake.feed(GET)
    await fake.feed(GET)
    assert not fake.transport.over
    fake.lose()

    assert 1 == fake.transport.written.count(b"HTTP/1.1 200")


async def test_an_idle_connection_is_closed_on_stop():
    """A connection with a request sends `connection: close` and ends after it."""
    idle, busy = FakeConnection(), FakeConnection()
    busy.application.may_respond.clear()
    await busy.feed(GET + GET)
    idle.connection.shutdown()
    busy.connection.shutdown()
    assert (True, False) == (idle.transport.closed, busy.transport.over)
    busy.application.may_respond.set()
    await busy.run()

    assert b"connection: close\r\n" in busy.transport.written
    assert busy.transport.over
    assert ["/a"] == busy.application.begun


@pytest.mark.parametrize("begun", [b"", GET[:-1]])
async def test_a_stopping_listener_serves_one_more_request_of_each_connection(begun):
    """The response has `connection: close`, and a further request is not served."""
    fake = FakeConnection()
    await fake.feed(begun)
    fake.connection.close_after_response()
    assert not fake.transport.over
    await fake.feed(GET[len(begun) :] + GET)

    assert b"connection: close\r\n" in fake.transport.written
    assert fake.transport.over
    assert ["/a"] == fake.application.begun


@pytest.mark.parametrize(
    ("limits", "sent", "aborted"),
    [
        ({"head_s": 0.01}, b"", False),
        ({"head_s": 0.01}, GET[:-1], True),
        ({"idle_s": 0.01}, GET, False),
        ({"head_s": 0.01}, GET + GET[:-1], True),
    ],
)
async def test_a_caller_that_takes_too_long_is_disconnected(limits, sent, aborted):
    """The timeouts apply before, within and after a request."""
    fake = FakeConnection(**limits)
    await fake.feed(sent)
    await eventually(lambda: fake.transport.over)

    assert aborted is fake.transport.aborted


async def test_an_unread_body_must_end():
    """The connection is aborted after `linger_s`."""
    fake = FakeConnection(Scripted(respond), linger_s=0.01)
    await fake.feed(POST)
    await eventually(lambda: fake.transport.over)

    assert fake.transport.aborted


async def test_a_caller_that_does_not_read_the_last_bytes_is_disconnected():
    """The idle timeout does not wait for them."""
    fake = FakeConnection(idle_s=0.01)
    await fake.feed(GET)
    fake.transport.pending = 1
    await eventually(lambda: fake.transport.over)

    assert fake.transport.aborted


async def test_trailers_do_not_become_headers():
    """Trailers are dropped."""
    fake = FakeConnection()
    await fake.feed(
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        b"1\r\nx\r\n0\r\nauthorization: Bearer stolen\r\n\r\n"
    )

    assert [(b"host", b"a"), (b"transfer-encoding", b"chunked")] == fake.application.headers
