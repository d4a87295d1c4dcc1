"""The header of the PROXY protocol, however it is cut."""

import socket
import struct

import pytest

from togetherchat_server.frontends.http.protocol.proxy_header import (
    ADDRESSES_BYTES_MAX,
    SIGNATURE,
    ProxyHeader,
)
from togetherchat_server.frontends.http.protocol.request_body import BadRequestError

HEAD = b"GET / HTTP/1.1\r\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6, UNSPECIFIED = 0x11, 0x21, 0x00


def header(addresses, *, command=PROXY, family=TCP4):
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(addresses)) + addresses


def ipv4(source="198.51.100.1", port=4321):
    return socket.inet_aton(source) + socket.inet_aton("10.0.0.1") + struct.pack("!HH", port, 80)


def ipv6(source="2001:db8::1", port=4321):
    return (
        socket.inet_pton(socket.AF_INET6, source)
        + socket.inet_pton(socket.AF_INET6, "::1")
        + struct.pack("!HH", port, 80)
    )


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("data", "client"),
    [
        (header(ipv4()), ("198.51.100.1", 4321)),
        (header(ipv6(), family=TCP6), ("2001:db8::1", 4321)),
        (header(ipv4() + b"\x04\x00\x02ab"), ("198.51.100.1", 4321)),  # with an extension
        (header(b"", command=LOCAL, family=UNSPECIFIED), None),  # the proxy's own health check
        (header(bytes(216), family=0x31), None),  # a Unix socket
        (b"", None),
    ],
    ids=["ipv4", "ipv6", "extension", "local", "unix", "none"],
)
def test_the_client_is_read_and_the_rest_is_returned(data, client, size):
    """The bytes after the header are those of the first request. A header may be missing."""
    parser, rest = ProxyHeader(), None
    sent = data + HEAD
    for at in range(0, len(sent), size):
        piece = sent[at : at + size]
        rest = parser.feed(piece) if rest is None else rest + piece

    assert HEAD == rest
    assert client == parser.client


@pytest.mark.parametrize(
    "data",
    [
        header(ipv4(), command=0x11),  # version 1
        header(ipv4(), command=0x22),
        header(ipv4()[:-1]),
        header(ipv4(), family=TCP6),
        header(bytes(ADDRESSES_BYTES_MAX + 1)),
    ],
    ids=["version", "command", "short", "family", "long"],
)
def test_a_malformed_header_is_rejected(data):
    """A header that cannot be understood is not skipped: the address would be that of the proxy."""
    with pytest.raises(BadRequestError):
        ProxyHeader().feed(data + HEAD)
