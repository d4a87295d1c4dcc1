"""The way to the upstream: what can go wrong before a request is on it."""

import asyncio
import socket

from support.certificates import make_certificate
from support.scripted_upstream import always, in_turn
from support.transport_calls import BODY, failure_of_send
from support.upstream_script import (
    AwaitClose,
    Pause,
    Send,
    json_answer,
)
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.upstream.client import UpstreamLimits

OK = json_answer(200, {"id": "1"})
CLOSING = json_answer(200, {"id": "1"}, headers={"Connection": "close"})


async def test_refused(serve, key):
    """A port where nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
        async with serve(always(OK), base_url=nobody) as (_, transport):
            assert Reason.UPSTREAM_CONNECT_FAILED == (await failure_of_send(transport, key)).reason


async def test_no_such_name(serve, key):
    """`.invalid` is reserved to be nobody's."""
    async with serve(always(OK), base_url="http://upstream.invalid/v1") as (_, transport):
        assert Reason.UPSTREAM_DNS_FAILED == (await failure_of_send(transport, key)).reason


async def test_no_file_descriptor_left(serve, key, monkeypatch):
    """Our own shortage, before anything reached the upstream."""

    def exhausted(*_arguments, **_named):
        raise OSError(24, "Too many open files")

    async with serve(always(OK)) as (_upstream, transport):
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", exhausted)
            assert Reason.UPSTREAM_CONNECT_FAILED == (await failure_of_send(transport, key)).reason
        assert 200 == (await transport.send("GET", "x", key=key, request_id="r")).status


async def test_unknown_authority(serve, key, certificate):
    """A certificate that nobody we trust has signed."""
    async with serve(always(OK), tls=certificate.server_context()) as (upstream, transport):
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(transport, key)).reason
        assert [] == upstream.ledger.requests


async def test_certificate_of_another_name(serve, key, certificate, tmp_path):
    """A trusted certificate, but of another host."""
    other = make_certificate(tmp_path, names="DNS:elsewhere.example")
    async with serve(always(OK), tls=other.server_context(), host="localhost", trust=other) as (
        upstream,
        transport,
    ):
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(transport, key)).reason
        assert [] == upstream.ledger.requests


async def test_trusted_certificate(serve, key, certificate):
    """The good case beside the bad ones, over a name and twice over one connection."""
    async with serve(always(OK), tls=certificate.server_context(), host="localhost", trust=certificate) as (
        upstream,
        transport,
    ):
        for _ in range(2):
            assert 200 == (await transport.send("POST", "x", key=key, request_id="r", body=BODY)).status
        assert [0, 0] == [request.connection for request in upstream.ledger.requests]


async def test_a_second_connection_resumes_the_session_of_the_first(serve, key, certificate):
    """As the server sees it: no certificate is shown and checked again, over every connection that follows."""
    async with serve(
        always(CLOSING), tls=certificate.server_context(), host="localhost", trust=certificate
    ) as (upstream, transport):
        for _ in range(3):
            assert 200 == (await transport.send("GET", "x", key=key, request_id="r")).status
        assert [False, True, True] == [connection.resumed for connection in upstream.ledger.connections]


async def test_connections_made_at_once_resume_it_all(serve, key, certificate):
    """A burst of calls gets as many quick handshakes."""
    async with serve(
        always(CLOSING), tls=certificate.server_context(), host="localhost", trust=certificate
    ) as (upstream, transport):
        await transport.send("GET", "x", key=key, request_id="r")
        await asyncio.gather(*(transport.send("GET", "x", key=key, request_id="r") for _ in range(20)))
        assert [False] + [True] * 20 == [connection.resumed for connection in upstream.ledger.connections]


async def test_a_session_is_no_way_around_the_certificate(serve, key, certificate, tmp_path):
    """Another server at the same place, whose certificate nobody trusts, is refused as ever."""
    async with serve(
        always(CLOSING), tls=certificate.server_context(), host="localhost", trust=certificate
    ) as (upstream, transport):
        assert 200 == (await transport.send("GET", "x", key=key, request_id="r")).status
        impostor = make_certificate(tmp_path, names="DNS:localhost")
        await upstream.change_tls(impostor.server_context())
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(transport, key)).reason
        assert 1 == len(upstream.ledger.requests)


async def test_tls_handshake_hangs(serve, key):
    """The time for connecting covers the handshake, and the socket is closed when it is over."""
    async with serve(
        always(OK), on_connect=(AwaitClose(),), scheme="https", limits=UpstreamLimits(connect_timeout_s=0.1)
    ) as (upstream, transport):
        assert Reason.UPSTREAM_CONNECT_TIMEOUT == (await failure_of_send(transport, key)).reason
        await upstream.closed(0, within_s=0.25)


async def test_not_tls_at_all(serve, key):
    """Plain HTTP where TLS was expected."""
    garbage = (Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), AwaitClose())
    async with serve(always(OK), on_connect=garbage, scheme="https") as (_upstream, transport):
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(transport, key)).reason


async def test_more_requests_than_connections(serve, key):
    """Refused at once: the queue is elsewhere. The place is free again afterwards."""
    go = asyncio.Event()
    async with serve(in_turn((Pause(go), *OK), OK), limits=UpstreamLimits(connections_max=1)) as (
        upstream,
        transport,
    ):
        first = asyncio.create_task(transport.send("GET", "x", key=key, request_id="r"))
        await upstream.asked()
        assert Reason.OVERLOADED == (await failure_of_send(transport, key)).reason
        go.set()
        assert 200 == (await first).status
        assert 200 == (await transport.send("GET", "x", key=key, request_id="r")).status
        assert 2 == len(upstream.ledger.requests)


async def test_a_closed_transport_asks_nobody(serve, key):
    """What comes after `aclose` fails like a connection that cannot be made."""
    async with serve(always(OK)) as (upstream, transport):
        await transport.aclose()
        assert Reason.UPSTREAM_CONNECT_FAILED == (await failure_of_send(transport, key)).reason
        assert [] == upstream.ledger.connections
