"""TLS sessions, by handshakes in memory with a real server's end and a clock that is told the time."""

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


class World:
    """A client's context whose handshakes are resumed, and a server's."""

    def __init__(self, authority, version=ssl.TLSVersion.TLSv1_3):
        self.clock = Clock()
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.client)
        self.client.maximum_version = version
        tls_sessions.resume(self.client, now_s=self.clock)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST, "another.example").configure_cert(self.server)

    def connects(self, host=HOST):
        """Shake hands, let the server say something; whether the server saw an earlier session."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = self.client.wrap_bio(to_client, to_server, server_hostname=host)
        theirs = self.server.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(3):
            for end in (ours, theirs):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        theirs.write(b"x")
        assert b"x" == ours.read(1)
        return theirs.session_reused

    def begins_in_vain(self):
        """A handshake that nobody answers."""
        ours = self.client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
        with pytest.raises(ssl.SSLWantReadError):
            ours.do_handshake()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
def world(request, authority):
    return World(authority, request.param)


def test_the_second_handshake_goes_on_from_the_first(world):
    """And so does every one that follows."""
    assert [False, True, True] == [world.connects() for _ in range(3)]


def test_another_host_is_another_session(world):
    """What was checked for one name says nothing of another, though one certificate bears both."""
    world.connects()

    assert not world.connects("another.example")


def test_a_certificate_is_looked_at_again_within_the_hour(world):
    """However often it was gone on from meanwhile."""
    world.connects()
    world.clock.now_s += SESSION_S * 0.6
    assert world.connects()
    world.clock.now_s += SESSION_S * 0.6

    assert not world.connects()
    assert world.connects()


def test_a_session_that_leads_nowhere_is_given_up(world):
    """A host that chokes on it is asked without one a second later."""
    world.connects()
    world.begins_in_vain()
    world.clock.now_s += UNPROVEN_S * 1.1

    assert not world.connects()


def test_one_that_leads_somewhere_is_kept(world):
    """A call that was cut off in its handshake is no sign against the host."""
    world.connects()
    world.begins_in_vain()
    assert world.connects()
    world.clock.now_s += UNPROVEN_S * 1.1

    assert world.connects()


def test_hosts_are_bounded(authority):
    """What is kept does not grow with the names that were asked."""
    world = World(authority)
    world.connects()
    for number in range(tls_sessions.HOSTS_MAX):
        name = f"h{number}.example"
        authority.issue_cert(name).configure_cert(world.server)
        world.connects(name)
    authority.issue_cert(HOST).configure_cert(world.server)

    assert not world.connects()
