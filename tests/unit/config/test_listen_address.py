"""Addresses of listeners: their syntax, and the sockets bound to them."""

import os
import socket
import stat

import pytest

from togetherchat_server.config.listen_address import ListenAddress, bound_sockets, remove_stale_socket


@pytest.mark.parametrize(
    ("text", "host", "port", "local"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051, True),
        ("127.9.9.9:1", "127.9.9.9", 1, False),
        ("0.0.0.0:0", "0.0.0.0", 0, False),
        ("[::1]:50051", "::1", 50051, True),
        ("[::]:50051", "::", 50051, False),
        ("[fe80::1]:7", "fe80::1", 7, False),
        ("localhost:65535", "localhost", 65535, True),
        ("chat.example.com:443", "chat.example.com", 443, False),
        ("localhost.example.com:443", "localhost.example.com", 443, False),
    ],
)
def test_hosts_and_ports(text, host, port, local):
    """An address is written as it was read."""
    address = ListenAddress.parse(text)

    assert (host, port, local, text) == (address.host, address.port, address.is_local, str(address))


@pytest.mark.parametrize(
    ("text", "path", "shown"),
    [
        ("unix:/run/chat.sock", "/run/chat.sock", "unix:/run/chat.sock"),
        ("unix:///run/chat.sock", "/run/chat.sock", "unix:/run/chat.sock"),
        ("unix-abstract:chat", "\0chat", "unix-abstract:chat"),
    ],
)
def test_unix_sockets(text, path, shown):
    """Only this machine can connect."""
    address = ListenAddress.parse(text)

    assert (path, shown, True) == (address.path, str(address), address.is_local)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "HOST:PORT"),
        ("50051", "HOST:PORT"),
        (":50051", "HOST:PORT"),
        ("localhost", "HOST:PORT"),
        ("localhost:", "HOST:PORT"),
        ("localhost:http", "HOST:PORT"),
        ("localhost:65536", "HOST:PORT"),
        ("localhost:-1", "HOST:PORT"),
        ("local host:1", "HOST:PORT"),
        ("http://localhost:1", "IPv6 address in brackets"),
        ("::1", "IPv6 address in brackets"),
        ("::1:50051", "IPv6 address in brackets"),
        ("[::1]", "HOST:PORT"),
        ("[127.0.0.1]:1", "between brackets"),
        ("[]:1", "between brackets"),
        ("*:50051", "[::]:50051 for every address"),
        ("unix:", "absolute path"),
        ("unix:chat.sock", "absolute path"),
        ("unix:/", "absolute path"),
        ("unix-abstract:", "absolute path"),
        ("unix:/" + "x" * 107, "107 bytes"),
    ],
)
def test_what_is_not_an_address(text, rule):
    """The message has the rule."""
    with pytest.raises(ValueError, match=r"^must") as caught:
        ListenAddress.parse(text)
    assert rule in str(caught.value)


def bound(text, **options):
    return bound_sockets(ListenAddress.parse(text), **options)


def closed(sockets):
    for one in sockets:
        one.close()


def connects(family, host, port):
    with socket.socket(family) as client:
        return client.connect_ex((host, port)) == 0


@pytest.mark.parametrize(
    ("text", "ipv4", "ipv6"),
    [
        ("0.0.0.0:0", True, False),
        ("[::]:0", True, True),
        ("[::1]:0", False, True),
        ("127.0.0.1:0", True, False),
    ],
)
def test_families(text, ipv4, ipv6):
    """`[::]` is every address, 0.0.0.0 those of IPv4."""
    sockets = bound(text)
    for one in sockets:
        one.listen()
    port = sockets[0].getsockname()[1]

    assert (ipv4, ipv6) == (
        connects(socket.AF_INET, "127.0.0.1", port),
        connects(socket.AF_INET6, "::1", port),
    )
    closed(sockets)


def test_every_address_of_a_machine_without_ipv6(monkeypatch):
    """Is every IPv4 address."""

    class NoIpv6(socket.socket):
        def __init__(self, family=socket.AF_INET, *arguments, **named):
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *arguments, **named)

    monkeypatch.setattr(socket, "socket", NoIpv6)
    (only,) = bound("[::]:0")

    assert "0.0.0.0" == only.getsockname()[0]
    only.close()


def test_an_address_in_use_is_named():
    (first,) = bound("127.0.0.1:0")
    first.listen()
    address = f"127.0.0.1:{first.getsockname()[1]}"

    with pytest.raises(OSError, match=f"^.*cannot listen on {address}: Address already in use"):
        bound(address)
    first.close()


def test_a_foreign_address_is_named():
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign"):
        bound("192.0.2.1:0")
    with pytest.raises(OSError, match=r"cannot listen on no-such-host\.invalid:0: "):
        bound("no-such-host.invalid:0")


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_the_file_of_a_unix_socket_has_the_mode(tmp_path, mode):
    (one,) = bound(f"unix:{tmp_path}/s", mode=mode)

    assert mode == stat.S_IMODE((tmp_path / "s").stat().st_mode)
    one.close()


def test_the_socket_of_a_dead_process_is_replaced(tmp_path):
    """The socket of a live one is kept, and a file that is not a socket is not removed."""
    address = f"unix:{tmp_path}/s"
    closed(bound(address))
    (second,) = bound(address)
    second.listen()
    with pytest.raises(OSError, match="Address already in use"):
        bound(address)
    second.close()
    remove_stale_socket(str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()

    (tmp_path / "s").write_text("precious")
    with pytest.raises(OSError, match="is not a socket"):
        bound(address)
    assert "precious" == (tmp_path / "s").read_text()


def test_an_abstract_socket_has_no_file():
    (one,) = bound(f"unix-abstract:togetherchat-test-{os.getpid()}")
    one.listen()
    with pytest.raises(OSError, match="Address already in use"):
        bound(f"unix-abstract:togetherchat-test-{os.getpid()}")
    one.close()
