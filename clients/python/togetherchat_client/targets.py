"""Validates targets, and decides by their text whether they are on this machine.

Owns the forms of a target. Opens nothing and resolves no names. The messages are those of
`clients/conformance/arguments.json`, which are the same in all clients.
"""

import ipaddress
import re
import unicodedata
from typing import Final

_EXAMPLE: Final = 'write "host:port", such as "localhost:50051"'
_URL: Final = re.compile(r"(https?|grpcs?|wss?|tcp|tls|ssl)://", re.IGNORECASE)
_DNS: Final = re.compile(r"dns:(//[^/]*/)?")
_PORT_MAX: Final = 65535
_SOCKETS: Final = ("unix:", "unix-abstract:")
_ADDRESS_LISTS: Final = ("ipv4:", "ipv6:")
# Schemes of gRPC's C core whose addresses are not a host and a port.
_LEFT_TO_GRPC: Final = re.compile(r"(vsock|xds|google-c2p):|[a-z][a-z0-9+.-]*://")


def validate_target(target: str) -> None:
    """Raise ValueError unless `target` has one of the supported forms."""
    if not target:
        raise ValueError(f"target: must not be empty; {_EXAMPLE}")
    if any(letter.isspace() or unicodedata.category(letter) == "Cc" for letter in target):
        raise ValueError(f"target: must not contain spaces or control characters; {_EXAMPLE}")
    if _URL.match(target):
        raise ValueError(f"target: must not be a URL; {_EXAMPLE}, and choose TLS with tls=")
    for scheme in _SOCKETS:
        if target.startswith(scheme):
            _validate_socket(target.removeprefix(scheme))
            return
    dns = _DNS.match(target)
    if dns is None and _LEFT_TO_GRPC.match(target):
        return
    for address in _addresses(target):
        _validate_address(address)


def is_local(target: str) -> bool:
    """Return whether every address in `target` is on this machine. Names are not resolved."""
    if target.startswith(_SOCKETS):
        return True
    return all(_is_local_host(_host(address)) for address in _addresses(target))


def _addresses(target: str) -> list[str]:
    """The addresses in `target`, without its scheme."""
    for scheme in _ADDRESS_LISTS:
        if target.startswith(scheme):
            return target.removeprefix(scheme).split(",")
    return [_DNS.sub("", target, count=1)]


def _validate_socket(path: str) -> None:
    if not path.removeprefix("//"):
        example = 'write "unix:PATH", such as "unix:/run/togetherchat.sock"'
        raise ValueError(f"target: the path of the socket is missing; {example}")


def _validate_address(address: str) -> None:
    if re.search(r"[/?#@]", address):
        raise ValueError(f"target: must not have a path, a query or a user name; {_EXAMPLE}")
    if "," in address:
        raise ValueError(
            'target: must be one address; several servers are one name in DNS, such as "dns:///chat.example.com:50051"'
        )
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](.*)", address)
    if bracketed is None and (address.startswith("[") or address.count(":") > 1):
        raise ValueError('target: an IPv6 address needs brackets and a port, such as "[::1]:50051"')
    host, rest = (bracketed[1], bracketed[2]) if bracketed else _split(address)
    if not host:
        raise ValueError(f"target: the host is missing; {_EXAMPLE}")
    if rest in ("", ":"):
        raise ValueError(f"target: the port is missing; {_EXAMPLE}")
    port = re.fullmatch(r":([0-9]{1,5})", rest)
    if port is None or not 0 < int(port[1]) <= _PORT_MAX:
        raise ValueError(
            f'target: the port must be a number from 1 to {_PORT_MAX}, such as "localhost:50051"'
        )


def _split(address: str) -> tuple[str, str]:
    host, colon, port = address.partition(":")
    return host, colon + port


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]


def _is_local_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
