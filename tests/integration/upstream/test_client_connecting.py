"""Failures of the upstream client before a request is sent."""

import asyncio
import socket
import ssl

import pytest

from support.certificates import make_certificate
from support.scripted_upstream import always, in_turn
from support.transport_calls import BODY, failure_of_send
from support.upstream_script import (
    AwaitClose,
    Pause,
    Send,
    json_response,
)
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream import tls_sessions
from togetherchat_server.upstream.client import UpstreamLimits

OK = json_response(200, {"id": "1"})
CLOSING = json_response(200, {"id": "1"}, headers={"Connection": "close"})


async def test_refused(serve, key):
    """A connection to a port without a listener fails."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
        async with serve(always(OK), base_url=base_url) as (_, client):
            assert Reason.UPSTREAM_CONNECT_FAILED == (await failure_of_send(client, key)).reason


async def test_no_such_name(serve, key):
    """A name that does not resolve has its own reason; `.invalid` is reserved for that."""
    async with serve(always(OK), base_url="http://upstream.invalid/v1") as (_, client):
        assert Reason.UPSTREAM_DNS_FAILED == (await failure_of_send(client, key)).reason


async def test_no_file_descriptor_left(serve, key, monkeypatch):
    """Our own lack of file descriptors fails before anything reaches the upstream."""

    def exhausted(*_arguments, **_named):
        raise OSError(24, "Too many open files")

    async with serve(always(OK)) as (_upstream, client):
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", exhausted)
            assert Reason.UPSTREAM_CONNECT_FAILED == (await failure_of_send(client, key)).reason
        assert 200 == (await client.send("GET", "x", key=key, request_id="r")).status


async def test_unknown_authority(serve, key, certificate):
    """A certificate of an unknown authority is rejected before the request is sent."""
    async with serve(always(OK), tls=certificate.server_context()) as (upstream, client):
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(client, key)).reason
        assert [] == upstream.request_log.requests


async def test_certificate_of_another_name(serve, key, certificate, tmp_path):
    """A trusted certificate of another host is rejected before the request is sent."""
    other = make_certificate(tmp_path, names="DNS:elsewhere.example")
    async with serve(always(OK), tls=other.server_context(), host="localhost", trust=other) as (
        upstream,
        client,
    ):
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(client, key)).reason
        assert [] == upstream.request_log.requests


async def test_trusted_certificate(serve, key, certificate):
    """A trusted certificate for the host name is accepted, and the connection is reused."""
    async with serve(always(OK), tls=certificate.server_context(), host="localhost", trust=certificate) as (
        upstream,
        client,
    ):
        for _ in range(2):
            assert 200 == (await client.send("POST", "x", key=key, request_id="r", body=BODY)).status
        assert [0, 0] == [request.connection for request in upstream.request_log.requests]


async def test_a_second_connection_resumes_the_session_of_the_first(serve, key, certificate):
    """The server sees a resumed session on every connection after the first."""
    async with serve(
        always(CLOSING), tls=certificate.server_context(), host="localhost", trust=certificate
    ) as (upstream, client):
        for _ in range(3):
            assert 200 == (await client.send("GET", "x", key=key, request_id="r")).status
        assert [False, True, True] == [connection.resumed for connection in upstream.request_log.connections]


async def test_concurrent_connections_all_resume_the_session(serve, key, certificate, monkeypatch):
    """Every connection of a burst resumes the session of the first."""
    # On a busy machine twenty handshakes in one process take longer than the second after which a session
    # without a handshake that succeeded is given up.
    monkeypatch.setattr(tls_sessions, "UNPROVEN_S", 60.0)
    async with serve(
        always(CLOSING), tls=certificate.server_context(), host="localhost", trust=certificate
    ) as (upstream, client):
        await client.send("GET", "x", key=key, request_id="r")
        await asyncio.gather(*(client.send("GET", "x", key=key, request_id="r") for _ in range(20)))
        assert [False] + [True] * 20 == [
            connection.resumed for connection in upstream.request_log.connections
        ]


async def test_a_session_does_not_bypass_the_certificate_check(serve, key, certificate, tmp_path):
    """Another server at the same address, with an untrusted certificate, is rejected."""
    async with serve(
        always(CLOSING), tls=certificate.server_context(), host="localhost", trust=certificate
    ) as (upstream, client):
        assert 200 == (await client.send("GET", "x", key=key, request_id="r")).status
        impostor = make_certificate(tmp_path, names="DNS:localhost")
        await upstream.change_tls(impostor.server_context())
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(client, key)).reason
        assert 1 == len(upstream.request_log.requests)


async def test_tls_handshake_hangs(serve, key):
    """The connect timeout covers the TLS handshake, and the socket is closed when it expires."""
    async with serve(
        always(OK), on_connect=(AwaitClose(),), scheme="https", limits=UpstreamLimits(connect_timeout_s=0.1)
    ) as (upstream, client):
        assert Reason.UPSTREAM_CONNECT_TIMEOUT == (await failure_of_send(client, key)).reason
        await upstream.closed(0, within_s=0.25)


async def test_not_tls_at_all(serve, key):
    """A plain HTTP response to a TLS handshake is a TLS failure."""
    garbage = (Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), AwaitClose())
    async with serve(always(OK), on_connect=garbage, scheme="https") as (_upstream, client):
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(client, key)).reason


async def test_a_rejected_client_certificate_is_a_tls_failure(serve, key, certificate):
    """With TLS 1.3 the client notices the rejection when it reads, after its own handshake has ended."""
    demanding = certificate.server_context()
    demanding.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"https://localhost:{listener.getsockname()[1]}/v1"
        async with serve(always(OK), base_url=base_url, trust=certificate) as (_, client):
            # In a thread: a TLS server of asyncio closes the connection without the alert.
            server = asyncio.create_task(asyncio.to_thread(reject_handshake, listener, demanding))
            failed = await failure_of_send(client, key)
            (await server).close()
    assert Reason.UPSTREAM_TLS_FAILED == failed.reason
    assert isinstance(failed.__cause__, ssl.SSLError)


def reject_handshake(listener: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
    """Accept one connection, send the alert that ends its handshake, and return it open."""
    accepted, _ = listener.accept()
    secured = tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    with pytest.raises(ssl.SSLError):
        secured.do_handshake()
    return secured


@pytest.mark.parametrize("request_id", ["r\r\nx-injected: 1", "r\nx-injected: 1", "r\r", "r\0"])
async def test_a_header_that_is_not_one_line_is_not_sent(serve, key, request_id):
    """A header that could end its own line fails the request before a connection is opened."""
    async with serve(always(OK)) as (upstream, client):
        with pytest.raises(ServiceError) as caught:
            await client.send("GET", "x", key=key, request_id=request_id)
        assert Reason.INTERNAL_ERROR == caught.value.reason
        assert [] == upstream.request_log.connections


async def test_another_scheme_is_not_supported(serve, key):
    """Only http and https are requested."""
    async with serve(always(OK), base_url="ftp://127.0.0.1/v1") as (_upstream, client):
        assert Reason.INTERNAL_ERROR == (await failure_of_send(client, key)).reason


async def test_more_requests_than_connections(serve, key):
    """A request beyond `connections_max` fails at once; the slot is free again afterwards."""
    go = asyncio.Event()
    async with serve(in_turn((Pause(go), *OK), OK), limits=UpstreamLimits(connections_max=1)) as (
        upstream,
        client,
    ):
        first = asyncio.create_task(client.send("GET", "x", key=key, request_id="r"))
        await upstream.received()
        assert Reason.OVERLOADED == (await failure_of_send(client, key)).reason
        go.set()
        assert 200 == (await first).status
        assert 200 == (await client.send("GET", "x", key=key, request_id="r")).status
        assert 2 == len(upstream.request_log.requests)


async def test_a_closed_client_sends_nothing(serve, key):
    """A request after `aclose` fails like a failed connection."""
    async with serve(always(OK)) as (upstream, client):
        await client.aclose()
        assert Reason.UPSTREAM_CONNECT_FAILED == (await failure_of_send(client, key)).reason
        assert [] == upstream.request_log.connections
