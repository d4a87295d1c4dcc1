"""TLS session resumption, by handshakes in memory with a real server side and a clock set by the test."""

import ssl
from contextlib import suppress

import pytest
import trustme

from togetherchat_server.upstream import tls_sessions
from togetherchat_server.upstream.tls_sessions import SESSION_S, UNPROVEN_S

HOST = "provider.example"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


class Peers:
    """A client context that resumes sessions, and a server context."""

    def __init__(self, authority, version=ssl.TLSVersion.TLSv1_3):
        self.clock = Clock()
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.client)
        self.client.maximum_version = version
        tls_sessions.resume(self.client, now_s=self.clock)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST, "another.example").configure_cert(self.server)

    def connect(self, host=HOST):
        """Complete a handshake and read a byte; returns whether the server resumed a session."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.client.wrap_bio(to_client, to_server, server_hostname=host)
        server = self.server.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(3):
            for end in (client, server):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        server.write(b"x")
        assert b"x" == client.read(1)
        return server.session_reused

    def begin_without_response(self):
        """Begin a handshake that gets no response."""
        client = self.client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
def peers(request, authority):
    return Peers(authority, request.param)


def test_the_second_handshake_resumes_the_first(peers):
    """Every handshake after the first resumes its session."""
    assert [False, True, True] == [peers.connect() for _ in range(3)]


def test_sessions_are_kept_per_host(peers):
    """A session for one name is not used for another, even if one certificate covers both."""
    peers.connect()

    assert not peers.connect("another.example")


def test_a_certificate_is_checked_again_within_the_hour(peers):
    """A session expires an hour after its certificate was checked, however often it was resumed."""
    peers.connect()
    peers.clock.now_s += SESSION_S * 0.6
    assert peers.connect()
    peers.clock.now_s += SESSION_S * 0.6

    assert not peers.connect()
    assert peers.connect()


def test_a_session_without_a_successful_handshake_is_dropped(peers):
    """A host that fails on a session gets a full handshake a second later."""
    peers.connect()
    peers.begin_without_response()
    peers.clock.now_s += UNPROVEN_S * 1.1

    assert not peers.connect()


def test_a_session_with_a_successful_handshake_is_kept(peers):
    """A handshake that a cancel interrupted does not count against the host."""
    peers.connect()
    peers.begin_without_response()
    assert peers.connect()
    peers.clock.now_s += UNPROVEN_S * 1.1

    assert peers.connect()


def test_hosts_are_bounded(authority):
    """The cache of sessions does not grow with the number of hosts."""
    peers = Peers(authority)
    peers.connect()
    for number in range(tls_sessions.HOSTS_MAX):
        name = f"h{number}.example"
        authority.issue_cert(name).configure_cert(peers.server)
        peers.connect(name)
    authority.issue_cert(HOST).configure_cert(peers.server)

    assert not peers.connect()
