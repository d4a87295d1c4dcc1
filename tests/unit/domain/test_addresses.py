"""Addresses: their spelling, the networks that share a limit, and clients behind proxies."""

import ipaddress

import pytest

from togetherchat_server.domain.addresses import HOPS_MAX, TrustedProxies, network_of, normalised


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", ""),
        ("/run/socket", "/run/socket"),
        ("no:address", "no:address"),
    ],
)
def test_an_address_is_normalised(host, expected):
    """IPv4 in IPv6 becomes IPv4. A text that is not an address is not changed."""
    assert expected == normalised(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("tenant acme", "tenant acme"),
        ("no:address", "no:address"),
    ],
)
def test_an_ipv6_network_shares_a_limit(host, expected):
    """A customer of an internet provider has at least a /64."""
    assert expected == network_of(host)


TRUSTED = TrustedProxies(map(ipaddress.ip_network, ("10.0.0.0/8", "2001:db8::/32")))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),  # not a proxy: its word counts nothing
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.5, 198.51.100.1", "198.51.100.1"),  # the left one is the client's own word
        ("10.0.0.1", "198.51.100.1, 10.2.3.4", "198.51.100.1"),
        ("10.0.0.1", "10.9.9.9, 10.2.3.4", "10.9.9.9"),
        ("10.0.0.1", "198.51.100.1:8080", "198.51.100.1"),
        ("10.0.0.1", "[2001:db9::1]:443", "2001:db9::1"),
        ("10.0.0.1", "2001:db9::1", "2001:db9::1"),
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown, 10.2.3.4", "10.2.3.4"),
        ("10.0.0.1", ",", "10.0.0.1"),
        ("2001:db8::7", "198.51.100.1", "198.51.100.1"),
    ],
)
def test_the_client_is_the_rightmost_untrusted_hop(peer, forwarded_for, client):
    """Only a trusted proxy is believed, and only what trusted proxies appended."""
    assert client == TRUSTED.client_of(peer, forwarded_for)


def test_the_hops_that_are_read_are_bounded():
    """A header of thousands of trusted hops costs no more than a few."""
    hops = ", ".join(["198.51.100.1", *["10.1.1.1"] * 5000])

    assert "10.1.1.1" == TRUSTED.client_of("10.0.0.1", hops)
    hops = ", ".join(["198.51.100.1", *["10.1.1.1"] * (HOPS_MAX - 1)])
    assert "198.51.100.1" == TRUSTED.client_of("10.0.0.1", hops)


def test_without_trusted_proxies_no_header_is_read():
    """The default believes nobody."""
    assert "10.0.0.1" == TrustedProxies().client_of("10.0.0.1", "198.51.100.1")
    assert not TrustedProxies()
