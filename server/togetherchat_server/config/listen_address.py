"""Addresses that listeners are bound to: their syntax, and sockets for them.

    127.0.0.1:50051     one IPv4 address        0.0.0.0:50051   every IPv4 address
    [::1]:50051         one IPv6 address        [::]:50051      every address, IPv4 and IPv6
    localhost:50051     each address of a name
    unix:/run/chat.sock a UNIX socket           unix-abstract:chat   one without a file (Linux)

Where the machine has no IPv6, `[::]` is every IPv4 address: so one value fits every cluster.
"""

import errno
import ipaddress
import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

UNIX: Final = "unix:"
ABSTRACT: Final = "unix-abstract:"
PORT_MAX: Final = 65535
SOCKET_PATH_BYTES_MAX: Final = 107
"""Of `sockaddr_un` on Linux, without the final zero."""
EVERY_IPV4: Final = "0.0.0.0"
EVERY_ADDRESS: Final = "::"
UNSUPPORTED: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""A name such as localhost may have an address of a family that this machine does not support."""
RULE: Final = "must be HOST:PORT, for example 127.0.0.1:50051"
UNIX_RULE: Final = (
    "must be unix:PATH with an absolute path, or unix-abstract:NAME, "
    f"of at most {SOCKET_PATH_BYTES_MAX} bytes"
)

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """A host and a port, or the name of a UNIX socket. An IPv6 address has no brackets here."""

    host: str = ""
    port: int = 0
    path: str = ""
    """Path of a UNIX socket. An abstract one begins with a zero byte, as its socket address does."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            ValueError: the text is not an address; the message has the rule.
        """
        if text.startswith(ABSTRACT):
            return cls._unix("\0" + text.removeprefix(ABSTRACT))
        if text.startswith(UNIX):
            path = text.removeprefix(UNIX)
            return cls._unix("/" + path.lstrip("/") if path.startswith("/") else "")
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) <= PORT_MAX):
            raise ValueError(RULE)
        if host.startswith("[") and host.endswith("]"):
            if not _is_ipv6(host[1:-1]):
                raise ValueError(f"{RULE}; between brackets it must have an IPv6 address")
            return cls(host=host[1:-1], port=int(port))
        if ":" in host:
            raise ValueError("must have an IPv6 address in brackets, followed by a port: [::1]:50051")
        if host == "*":
            raise ValueError("must name a host: [::]:50051 for every address, 0.0.0.0:50051 for IPv4 only")
        if not _HOST_NAME.fullmatch(host):
            raise ValueError(RULE)
        return cls(host=host, port=int(port))

    @classmethod
    def _unix(cls, path: str) -> Self:
        if not 1 < len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX or "\0" in path[1:]:
            raise ValueError(UNIX_RULE)
        return cls(path=path)

    def __str__(self) -> str:
        if self.path:
            return ABSTRACT + self.path[1:] if self.is_abstract else UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_abstract(self) -> bool:
        return self.path.startswith("\0")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect, as far as the names show that are used for it."""
        return bool(self.path) or self.host in {"localhost", "127.0.0.1", "::1"}

    def with_port(self, port: int) -> "ListenAddress":
        return ListenAddress(host=self.host, port=port, path=self.path)


def bound_sockets(
    address: ListenAddress, *, share_port: bool = False, mode: int = 0o600
) -> list[socket.socket]:
    """Return bound sockets that do not listen yet, one for each address of a host, all on one port.

    Args:
        address: where to bind. Port 0 becomes a free one.
        share_port: whether other processes may bind the same port.
        mode: of the file of a UNIX socket.

    Raises:
        OSError: the address cannot be bound. The message names it.
    """
    try:
        if address.path:
            return [_unix_socket(address, mode)]
        return _inet_sockets(address, share_port=share_port)
    except OSError as exc:
        raise OSError(exc.errno, f"cannot listen on {address}: {exc.strerror or exc}") from exc


def loopback_host() -> str:
    """Return the address of this machine for itself: 127.0.0.1, or ::1 where there is no IPv4."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError:
        return "::1"
    return "127.0.0.1"


def remove_stale_socket(path: str) -> None:
    """Remove the file of a UNIX socket at which nothing listens any more.

    Raises:
        OSError: EADDRINUSE, another process listens; EEXIST, the file is not a socket.
    """
    if path.startswith("\0"):
        return
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                Path(path).unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _unix_socket(address: ListenAddress, mode: int) -> socket.socket:
    remove_stale_socket(address.path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # Between `bind` and `chmod` nobody can connect: the socket does not listen yet.
        listener.bind(address.path)
        if not address.is_abstract:
            Path(address.path).chmod(mode)
    except BaseException:
        listener.close()
        raise
    return listener


def _inet_sockets(address: ListenAddress, *, share_port: bool) -> list[socket.socket]:
    if address.host == EVERY_ADDRESS:
        try:
            return [
                _inet_socket(socket.AF_INET6, address.host, address.port, share_port=share_port, dual=True)
            ]
        except OSError as exc:
            if exc.errno not in UNSUPPORTED:
                raise
            address = ListenAddress(host=EVERY_IPV4, port=address.port)
    bound: list[socket.socket] = []
    problem = OSError(errno.EADDRNOTAVAIL, "no such address")
    for family, host in _resolved(address):
        port = bound[0].getsockname()[1] if bound else address.port
        try:
            bound.append(_inet_socket(family, host, port, share_port=share_port))
        except OSError as exc:
            problem = exc
            if exc.errno not in UNSUPPORTED:
                _close(bound)
                raise
    if not bound:
        raise problem
    return bound


def _close(bound: list[socket.socket]) -> None:
    for listener in bound:
        listener.close()


def _resolved(address: ListenAddress) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as exc:
        raise OSError(errno.EADDRNOTAVAIL, exc.strerror) from exc
    return list(dict.fromkeys((family, str(where[0])) for family, _, _, _, where in found))


def _inet_socket(family: int, host: str, port: int, *, share_port: bool, dual: bool = False) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # An earlier server's closed connections are in TIME_WAIT for a minute: they must not block the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(text), ipaddress.IPv6Address)
    except ValueError:
        return False
